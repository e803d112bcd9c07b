// Activations as the kernels of quantized weights read them: int8 in groups of 32 k (see linear.h).
#pragma once
#include <float.h>

#include "../linear.h"
#include "int_simd.h"

namespace pf {
namespace PF_ISA {

struct ActivationGroup {
  int8_t a[kGroup];
  float scale;           // s
  float scaled_sum;      // t = s * sum(a)
  int16_t half_sums[2];  // sums of a over the first and the second 16 k
};
static_assert(sizeof(ActivationGroup) == 44);

namespace {

PF_INLINE F16x magnitude(F16x x) { return max(x, sub(zero(), x)); }

PF_INLINE void quantize_group(const float* x, ActivationGroup* out) {
  const F16x lo = load(x), hi = load(x + 16);
  // x * 0 is NaN for infinities and NaNs, which max alone would lose.
  const float poison = reduce_add(add(mul(lo, zero()), mul(hi, zero())));
  const float scale = reduce_max(max(magnitude(lo), magnitude(hi))) / 127.0f;
  const F16x inverse = set1(scale >= FLT_MIN && scale <= FLT_MAX ? 1.0f / scale : 0.0f);
  // The bounds matter for poisoned groups only: max(NaN, -127) is -127.
  const F16x low = set1(-127.0f), high = set1(127.0f);
  store_rounded(out->a, min(max(mul(lo, inverse), low), high));
  store_rounded(out->a + 16, min(max(mul(hi, inverse), low), high));
  int sums[2] = {0, 0};
  for (int i = 0; i < kGroup; ++i) sums[i / 16] += out->a[i];
  out->scale = (scale >= FLT_MIN ? scale : 0.0f) + poison;
  out->scaled_sum = out->scale * static_cast<float>(sums[0] + sums[1]);
  out->half_sums[0] = static_cast<int16_t>(sums[0]);
  out->half_sums[1] = static_cast<int16_t>(sums[1]);
}

}  // namespace
}  // namespace PF_ISA
}  // namespace pf
