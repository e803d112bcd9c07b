// RMS norm, with the residual added before and the result quantized after, in one kernel: what an 8-bit matrix product
// takes. The norm is that of norm.h; what is quantized is not rounded to T before.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

// A group becomes q = round(y / s) with s = max |y| / (127 for int8_t, 448 for e4m3), to nearest even. A group of zeros
// has s = 0; one that holds an infinity or a NaN has s = NaN.
template <class T, class Q>
struct NormQuantizeArgs {
  const T* a;                              // [rows, width]
  const T* b;                              // of the same shape, or null
  const float* weight;                     // [width]
  T* sum;                                  // a + b, rounded to T; null without b
  Q* q;                                    // [rows, width], dense
  float* scales;                           // [rows, width / group], or [rows] without groups
  int64_t rows, width, group;              // group 0: a whole row
  int64_t a_stride, b_stride, sum_stride;  // elements between rows
  float eps;
};

// width is a multiple of 16, group one of 8, 16, 32, 64, 128, 256 that divides it, and strides and addresses are whole
// vectors of 16 bytes; throws std::invalid_argument otherwise. `sum` may be `a` or `b`. T: float, f16, bf16; Q: int8_t,
// e4m3.
template <class T, class Q>
void rms_norm_quantize(const NormQuantizeArgs<T, Q>& args, Stream stream);

}  // namespace pf::gpu
