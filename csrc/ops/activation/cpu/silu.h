// silu, for silu_mul and for the linear ops that have it fused in.
#pragma once
#include "../../cpu/simd.h"

namespace pf {
namespace PF_ISA {
namespace {

PF_INLINE F16x silu(F16x v) {
  const F16x e = exp(min(set1(88.0f), sub(zero(), v)));  // silu(-88) is already below 1e-36; min passes NaN on
  return div(v, add(set1(1.0f), e));
}

}  // namespace
}  // namespace PF_ISA
}  // namespace pf
