// One thread a vector of 16 bytes; a block's threads lie side by side in one row.
#include "../../../gpu/values.h"
#include "gelu.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

GPU_DEVICE float gelu_of(float x, Gelu kind) {
  if (kind == Gelu::kTanh) {
    // 1 + tanh(t) = 2 / (1 + e^-2t), without the difference of nearly equal numbers far below zero.
    const float t = 0.79788456f * x * fmaf(0.044715f * x, x, 1.0f);
    return x / (1.0f + expf(fminf(88.0f, -2.0f * t)));
  }
  return 0.5f * x * erfcf(-0.70710678f * x);
}

template <class T, int kStep>
GPU_KERNEL(kThreads)
void gelu_kernel(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t cols, Gelu kind, bool gated) {
  const int64_t column = (int64_t{block_y()} * kThreads + thread_x()) * kStep;
  if (column >= cols && !GPU_PLANTED("gelu: no guard")) return;
  const T* from = x + block_x() * x_stride + column;
  float v[kStep];
  load_values(from, v);
  GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] = gelu_of(v[i], kind);
  if (gated) {
    float up[kStep];
    load_values(from + cols, up);
    GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] *= up[i];
  }
  store_values(y + block_x() * y_stride + column, v);
}

}  // namespace

template <class T>
void gelu(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Gelu kind, bool gated,
          Stream stream) {
  if (rows == 0) return;
  const bool vectors = rows_are_vectors<T>(x, cols, x_stride) && rows_are_vectors<T>(y, cols, y_stride);
  const int64_t threads = vectors ? cols / kPerVec<T> : cols;
  const Dim3 grid = {static_cast<unsigned>(rows), static_cast<unsigned>((threads + kThreads - 1) / kThreads)};
  if (vectors) {
    GPU_LAUNCH((gelu_kernel<T, kPerVec<T>>), grid, kThreads, 0, stream, x, x_stride, y, y_stride, cols, kind, gated);
  } else {
    GPU_LAUNCH((gelu_kernel<T, 1>), grid, kThreads, 0, stream, x, x_stride, y, y_stride, cols, kind, gated);
  }
}

template void gelu(const float*, int64_t, float*, int64_t, int64_t, int64_t, Gelu, bool, Stream);
template void gelu(const f16*, int64_t, f16*, int64_t, int64_t, int64_t, Gelu, bool, Stream);
template void gelu(const bf16*, int64_t, bf16*, int64_t, int64_t, int64_t, Gelu, bool, Stream);

}  // namespace pf::gpu
