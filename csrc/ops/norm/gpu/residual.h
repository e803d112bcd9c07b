// How the norm kernels read a row: with or without the residual add that is fused into them.
#pragma once
#include "../../../gpu/values.h"

namespace pf::gpu {

// Elements [i, i + kStep) of the row `a`, or with `b` of a + b, rounded to T and written to `sum` as well.
template <class T, int kStep>
GPU_DEVICE void load_sum(const T* a, const T* b, T* sum, int64_t i, float (&v)[kStep]) {
  load_values(a + i, v);
  if (b == nullptr) return;
  float w[kStep];
  load_values(b + i, w);
  GPU_UNROLL for (int j = 0; j < kStep; ++j) v[j] = to_float(from_float<T>(v[j] + w[j]));
  store_values(sum + i, v);
}

}  // namespace pf::gpu
