// Activations as the kernels of quantized weights read them: int8 in groups of 32 k (see linear.h).
#pragma once
#include <float.h>
#include <math.h>

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

PF_INLINE void quantize_group(const float* x, ActivationGroup* out) {
  const F16x lo = load(x), hi = load(x + 16);
  const uint32_t largest = largest_magnitude(lo, hi);
  const float scale = bits_to_float(largest) / 127.0f;
  const bool finite = largest < 0x7f800000u;
  if (!finite || scale < FLT_MIN) {
    memset(out, 0, sizeof *out);
    out->scale = out->scaled_sum = finite ? 0.0f : NAN;
    return;
  }
  const F16x inverse = set1(1.0f / scale);  // |x| * inverse may exceed 127 by rounding errors, but not round to 128
  store_rounded(out->a, mul(lo, inverse));
  store_rounded(out->a + 16, mul(hi, inverse));
  const int first = sum16(out->a), second = sum16(out->a + 16);
  out->scale = scale;
  out->scaled_sum = scale * static_cast<float>(first + second);
  out->half_sums[0] = static_cast<int16_t>(first);
  out->half_sums[1] = static_cast<int16_t>(second);
}

}  // namespace
}  // namespace PF_ISA
}  // namespace pf
