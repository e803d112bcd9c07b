// One thread a vector of 16 bytes, or an element; a block's threads lie side by side in one row.
#include "../../../gpu/values.h"
#include "activation.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

Dim3 grid_of(int64_t rows, int64_t threads) {
  return {static_cast<unsigned>(rows), static_cast<unsigned>((threads + kThreads - 1) / kThreads)};
}

GPU_DEVICE int64_t first_column(int step) { return (int64_t{block_y()} * kThreads + thread_x()) * step; }

enum class Activation { kSilu, kGeluErf, kGeluTanh };

// e^-88 is already below 1e-38; e^88 is still finite.
GPU_DEVICE float silu_of(float x) { return x / (1.0f + expf(fminf(88.0f, -x))); }

GPU_DEVICE float activated(float x, Activation kind) {
  if (kind == Activation::kSilu) return silu_of(x);
  if (kind == Activation::kGeluErf) return 0.5f * x * erfcf(-0.70710678f * x);
  // 1 + tanh(t) = 2 / (1 + e^-2t), without the difference of nearly equal numbers far below zero.
  const float t = 0.79788456f * x * fmaf(0.044715f * x, x, 1.0f);
  return x / (1.0f + expf(fminf(88.0f, -2.0f * t)));
}

template <class T>
GPU_KERNEL(kThreads)
void activation_kernel(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t cols, Activation kind, bool gated,
                       bool vectors) {
  with_step<T>(vectors, [&]<int kStep>() {
    const int64_t column = first_column(kStep);
    if (column >= cols && !GPU_PLANTED("activation: no guard")) return;
    const T* from = x + block_x() * x_stride + column;
    float v[kStep];
    load_values(from, v);
    GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] = activated(v[i], kind);
    if (gated) {
      float up[kStep];
      load_values(from + cols, up);
      GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] *= up[i];
    }
    store_values(y + block_x() * y_stride + column, v);
  });
}

template <class T>
void activate(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Activation kind,
              bool gated, Stream stream) {
  if (rows == 0) return;
  const bool vectors = rows_are_vectors<T>(x, cols, x_stride) && rows_are_vectors<T>(y, cols, y_stride);
  GPU_LAUNCH(activation_kernel<T>, grid_of(rows, vectors ? cols / kPerVec<T> : cols), kThreads, 0, stream, x, x_stride,
             y, y_stride, cols, kind, gated, vectors);
}

// Bytes: strides, too.
GPU_KERNEL(kThreads)
void copy_rows_kernel(const char* x, int64_t x_stride, const int32_t* rows, char* y, int64_t y_stride, int64_t length,
                      bool vectors) {
  const int64_t column = first_column(vectors ? sizeof(Vec16) : sizeof(uint16_t));
  if (column >= length && !GPU_PLANTED("gather_rows: no guard")) return;
  const char* from = x + (rows == nullptr ? int64_t{block_x()} : rows[block_x()]) * x_stride + column;
  char* to = y + block_x() * y_stride + column;
  if (vectors) {
    store_vec(to, load_vec<Vec16>(from));
  } else {
    *reinterpret_cast<uint16_t*>(to) = *reinterpret_cast<const uint16_t*>(from);
  }
}

}  // namespace

template <class T>
void silu_mul(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Stream stream) {
  activate(x, x_stride, y, y_stride, rows, cols, Activation::kSilu, true, stream);
}

template <class T>
void gelu(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Gelu kind, bool gated,
          Stream stream) {
  const Activation activation = kind == Gelu::kErf ? Activation::kGeluErf : Activation::kGeluTanh;
  activate(x, x_stride, y, y_stride, rows, cols, activation, gated, stream);
}

template <class T>
void gather_rows(const T* x, int64_t x_stride, const int32_t* rows, T* y, int64_t y_stride, int64_t count, int64_t cols,
                 Stream stream) {
  if (count == 0) return;
  const bool vectors = rows_are_vectors<T>(x, cols, x_stride) && rows_are_vectors<T>(y, cols, y_stride);
  const int64_t size = sizeof(T), bytes = cols * size;
  GPU_LAUNCH(copy_rows_kernel, grid_of(count, bytes / (vectors ? 16 : 2)), kThreads, 0, stream,
             reinterpret_cast<const char*>(x), x_stride * size, rows, reinterpret_cast<char*>(y), y_stride * size,
             bytes, vectors);
}

#define PF_INSTANTIATE(T)                                                                   \
  template void silu_mul(const T*, int64_t, T*, int64_t, int64_t, int64_t, Stream);         \
  template void gelu(const T*, int64_t, T*, int64_t, int64_t, int64_t, Gelu, bool, Stream); \
  template void gather_rows(const T*, int64_t, const int32_t*, T*, int64_t, int64_t, int64_t, Stream);
PF_INSTANTIATE(float)
PF_INSTANTIATE(f16)
PF_INSTANTIATE(bf16)
#undef PF_INSTANTIATE

}  // namespace pf::gpu
