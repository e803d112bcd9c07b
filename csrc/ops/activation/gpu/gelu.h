// GELU on a GPU, alone or times another half, for float, f16 and bf16; computed in float.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

enum class Gelu {
  kErf,   // x / 2 (1 + erf(x / sqrt 2))
  kTanh,  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
};

// y[rows, cols] = gelu(x), x[rows, cols]; if `gated`, gelu(x[:, :cols]) * x[:, cols:] of x[rows, 2 cols]. Strides are
// elements between rows; y may be x.
template <class T>
void gelu(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Gelu kind, bool gated,
          Stream stream);

}  // namespace pf::gpu
