// RMS norm of one group, for the norm ops and for the linear ops that have a norm fused in: the same operations in the
// same order, hence the same bits.
#pragma once
#include <math.h>

#include "../../cpu/simd.h"

namespace pf {
namespace PF_ISA {
namespace {

// Squares are summed in sixteen lanes in ascending order, then by the tree of reduce_add. `y` may be `x`.
PF_INLINE void normalize(const float* x, const float* weight, int64_t n, float eps, float* y) {
  F16x squares = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const F16x v = load_left(x + i, n - i);
    squares = fma(v, v, squares);
  }
  const F16x scale = set1(1.0f / sqrtf(reduce_add(squares) / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += 16) {
    store_left(y + i, mul(mul(load_left(x + i, n - i), scale), load_left(weight + i, n - i)), n - i);
  }
}

}  // namespace
}  // namespace PF_ISA
}  // namespace pf
