// The activation ops on a GPU (contract: ops/activation/activation.h) and GELU, for float, f16 and bf16; computed in
// float.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

// y[rows, cols] = silu(x[:, :cols]) * x[:, cols:]. Strides are elements between rows.
template <class T>
void silu_mul(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Stream stream);

enum class Gelu {
  kErf,   // x / 2 (1 + erf(x / sqrt 2))
  kTanh,  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
};

// y[rows, cols] = gelu(x), x[rows, cols]; if `gated`, gelu(x[:, :cols]) * x[:, cols:] of x[rows, 2 cols]. Strides are
// elements between rows; y may be x.
template <class T>
void gelu(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Gelu kind, bool gated,
          Stream stream);

// y[r] = x[rows[r]] for r < count; without `rows`, x[r].
template <class T>
void gather_rows(const T* x, int64_t x_stride, const int32_t* rows, T* y, int64_t y_stride, int64_t count, int64_t cols,
                 Stream stream);

}  // namespace pf::gpu
