// The normalisation ops on a GPU (contract: ops/norm/norm.h), for float, f16 and bf16 activations. Sums are in float.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

template <class T>
struct RmsNormArgs {
  const T* a;           // [rows, groups * width]
  const T* b;           // of the same shape, or null: add_rms_norm
  const float* weight;  // [width]
  T* sum;               // a + b, rounded to T; null without b
  T* y;                 // rms_norm(a), or of the rounded sum
  int64_t rows, groups, width;
  int64_t a_stride, b_stride, sum_stride, y_stride;  // elements between rows
  float eps;
};

// An output may be the same memory as an input. T: float, f16, bf16.
template <class T>
void rms_norm(const RmsNormArgs<T>& args, Stream stream);

// y = a + b, of [rows, cols]; y may be the same memory as a or b. T: float, f16, bf16.
template <class T>
void add(const T* a, int64_t a_stride, const T* b, int64_t b_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols,
         Stream stream);

}  // namespace pf::gpu
