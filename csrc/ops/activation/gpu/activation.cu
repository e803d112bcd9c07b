// One thread a vector of 16 bytes; a block's threads lie side by side in one row.
#include "../../../gpu/values.h"
#include "activation.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

Dim3 grid_of(int64_t rows, int64_t cols, int step) {
  const int64_t threads = (cols + step - 1) / step;
  return {static_cast<unsigned>(rows), static_cast<unsigned>((threads + kThreads - 1) / kThreads)};
}

GPU_DEVICE int64_t first_column(int step) { return (int64_t{block_y()} * kThreads + thread_x()) * step; }

template <class T, int kStep>
GPU_KERNEL(kThreads)
void silu_mul_kernel(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t cols) {
  const int64_t column = first_column(kStep);
  if (column >= cols && !GPU_PLANTED("silu_mul: no guard")) return;
  const T* gate = x + block_x() * x_stride + column;
  float g[kStep], u[kStep];
  load_values(gate, g);
  load_values(gate + cols, u);
  // silu(-88) is already below 1e-36; e^88 is still finite.
  GPU_UNROLL for (int i = 0; i < kStep; ++i) g[i] = g[i] / (1.0f + expf(fminf(88.0f, -g[i]))) * u[i];
  store_values(y + block_x() * y_stride + column, g);
}

template <class T, int kStep>
GPU_KERNEL(kThreads)
void gather_rows_kernel(const T* x, int64_t x_stride, const int32_t* rows, T* y, int64_t y_stride, int64_t cols) {
  const int64_t column = first_column(kStep);
  if (column >= cols && !GPU_PLANTED("gather_rows: no guard")) return;
  float v[kStep];
  load_values(x + rows[block_x()] * x_stride + column, v);
  store_values(y + block_x() * y_stride + column, v);
}

}  // namespace

template <class T>
void silu_mul(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Stream stream) {
  if (rows == 0) return;
  if (rows_are_vectors<T>(x, cols, x_stride) && rows_are_vectors<T>(y, cols, y_stride)) {
    GPU_LAUNCH((silu_mul_kernel<T, kPerVec<T>>), grid_of(rows, cols, kPerVec<T>), kThreads, 0, stream, x, x_stride, y,
               y_stride, cols);
  } else {
    GPU_LAUNCH((silu_mul_kernel<T, 1>), grid_of(rows, cols, 1), kThreads, 0, stream, x, x_stride, y, y_stride, cols);
  }
}

template <class T>
void gather_rows(const T* x, int64_t x_stride, const int32_t* rows, T* y, int64_t y_stride, int64_t count, int64_t cols,
                 Stream stream) {
  if (count == 0) return;
  if (rows_are_vectors<T>(x, cols, x_stride) && rows_are_vectors<T>(y, cols, y_stride)) {
    GPU_LAUNCH((gather_rows_kernel<T, kPerVec<T>>), grid_of(count, cols, kPerVec<T>), kThreads, 0, stream, x, x_stride,
               rows, y, y_stride, cols);
  } else {
    GPU_LAUNCH((gather_rows_kernel<T, 1>), grid_of(count, cols, 1), kThreads, 0, stream, x, x_stride, rows, y, y_stride,
               cols);
  }
}

#define PF_INSTANTIATE(T)                                                           \
  template void silu_mul(const T*, int64_t, T*, int64_t, int64_t, int64_t, Stream); \
  template void gather_rows(const T*, int64_t, const int32_t*, T*, int64_t, int64_t, int64_t, Stream);
PF_INSTANTIATE(float)
PF_INSTANTIATE(f16)
PF_INSTANTIATE(bf16)

}  // namespace pf::gpu
