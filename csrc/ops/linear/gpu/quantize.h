// Activations for a GEMM of 8-bit floats.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

template <class T>
struct QuantizeArgs {
  const T* x;    // [rows, cols]
  e4m3* y;       // of the same shape
  float* scale;  // [rows]: LinearArgs::x_scale
  int64_t rows, cols;
  int64_t x_stride, y_stride;  // elements between rows
};

// y = x / scale, scale = max|x| / 448 of a row; a row of zeros has scale 0. NaN stays NaN, a row with an infinity
// becomes NaNs. std::invalid_argument unless rows are whole vectors: multiples of 8 elements, aligned to 16 bytes. T:
// f16, bf16.
template <class T>
void quantize_rows(const QuantizeArgs<T>& args, Stream stream);

}  // namespace pf::gpu
