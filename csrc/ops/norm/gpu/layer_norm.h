// Layer norm on a GPU, for float, f16 and bf16 activations. Sums are in float, the variance is that of the differences.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

template <class T>
struct LayerNormArgs {
  const T* a;           // [rows, width]
  const T* b;           // of the same shape, or null: y is the norm of a + b
  const float* weight;  // [width]
  const float* bias;    // [width], or null
  T* sum;               // a + b, rounded to T; null without b
  T* y;
  int64_t rows, width;
  int64_t a_stride, b_stride, sum_stride, y_stride;  // elements between rows
  float eps;
};

// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias of each row. An output may be the same memory as an input.
template <class T>
void layer_norm(const LayerNormArgs<T>& args, Stream stream);

}  // namespace pf::gpu
