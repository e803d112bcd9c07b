// Sixteen floats as one value, for the instruction set that PF_ISA names. Kernel files include this and are compiled
// once for each set with the matching flags; everything lives in pf::PF_ISA so that no symbol of one variant can serve
// another. Kernel files must not instantiate std templates with external linkage (a vector<T> compiled with AVX-512
// flags could be chosen by the linker for all): use raw pointers and the helpers here.
//
// The sets agree on the order of operations: fma is fused on avx2 and avx512 (bitwise equal results) and mul+add on
// generic. Reductions over lanes always use the tree 8+8, 4+4, 2+2, 1+1. max(a, b) and min(a, b) give b where either is
// NaN. where_less takes a where x < y, else b; where_bits takes a where bit i is 1; less_bits sets bit i where x < y.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "half.h"

#ifndef PF_ISA
#error "compile kernel files with -DPF_ISA=generic|avx2|avxvnni|avx512|avx512vnni"
#endif
#define PF_ISA_generic 0
#define PF_ISA_avx2 2
#define PF_ISA_avx512 3
// The sets with VNNI differ from these two in int_simd.h only.
#define PF_ISA_avxvnni PF_ISA_avx2
#define PF_ISA_avx512vnni PF_ISA_avx512
#define PF_CAT_(a, b) a##b
#define PF_CAT(a, b) PF_CAT_(a, b)
#define PF_ISA_LEVEL PF_CAT(PF_ISA_, PF_ISA)

#if PF_ISA_LEVEL > 0
#include <immintrin.h>
#endif

#define PF_INLINE inline __attribute__((always_inline))

namespace pf {
namespace PF_ISA {
namespace {

#if PF_ISA_LEVEL == PF_ISA_avx512

struct F16x {
  __m512 v;
};
PF_INLINE F16x load(const float* p) { return {_mm512_loadu_ps(p)}; }
PF_INLINE void store(float* p, F16x a) { _mm512_storeu_ps(p, a.v); }
PF_INLINE F16x set1(float x) { return {_mm512_set1_ps(x)}; }
PF_INLINE F16x add(F16x a, F16x b) { return {_mm512_add_ps(a.v, b.v)}; }
PF_INLINE F16x sub(F16x a, F16x b) { return {_mm512_sub_ps(a.v, b.v)}; }
PF_INLINE F16x mul(F16x a, F16x b) { return {_mm512_mul_ps(a.v, b.v)}; }
PF_INLINE F16x div(F16x a, F16x b) { return {_mm512_div_ps(a.v, b.v)}; }
PF_INLINE F16x fma(F16x a, F16x b, F16x c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
PF_INLINE F16x max(F16x a, F16x b) { return {_mm512_max_ps(a.v, b.v)}; }
PF_INLINE F16x min(F16x a, F16x b) { return {_mm512_min_ps(a.v, b.v)}; }
PF_INLINE F16x load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
PF_INLINE void store_half(uint16_t* p, F16x a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
PF_INLINE F16x load_bfloat(const uint16_t* p) {
  const __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(w, 16))};
}
// 2^n for integral n in [-126, 127].
PF_INLINE F16x exp2i(F16x n) {
  const __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(e, 23))};
}
PF_INLINE F16x round(F16x a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
PF_INLINE void split(F16x a, float* sixteen) { store(sixteen, a); }
PF_INLINE F16x where_less(F16x x, F16x y, F16x a, F16x b) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), b.v, a.v)};
}
PF_INLINE uint32_t less_bits(F16x x, F16x y) { return _mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ); }
PF_INLINE F16x where_bits(uint32_t bits, F16x a, F16x b) {
  return {_mm512_mask_blend_ps(static_cast<__mmask16>(bits), b.v, a.v)};
}

#elif PF_ISA_LEVEL == PF_ISA_avx2

struct F16x {
  __m256 lo, hi;
};
PF_INLINE F16x load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PF_INLINE void store(float* p, F16x a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
PF_INLINE F16x set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
PF_INLINE F16x add(F16x a, F16x b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
PF_INLINE F16x sub(F16x a, F16x b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
PF_INLINE F16x mul(F16x a, F16x b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
PF_INLINE F16x div(F16x a, F16x b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
PF_INLINE F16x fma(F16x a, F16x b, F16x c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
PF_INLINE F16x max(F16x a, F16x b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
PF_INLINE F16x min(F16x a, F16x b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
PF_INLINE F16x load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
PF_INLINE void store_half(uint16_t* p, F16x a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
PF_INLINE __m256 widen_bfloat(const uint16_t* p) {
  const __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}
PF_INLINE F16x load_bfloat(const uint16_t* p) { return {widen_bfloat(p), widen_bfloat(p + 8)}; }
PF_INLINE __m256 exp2i_half(__m256 n) {
  const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
PF_INLINE F16x exp2i(F16x n) { return {exp2i_half(n.lo), exp2i_half(n.hi)}; }
PF_INLINE F16x round(F16x a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
PF_INLINE void split(F16x a, float* sixteen) { store(sixteen, a); }
PF_INLINE F16x where_less(F16x x, F16x y, F16x a, F16x b) {
  return {_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, y.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, y.hi, _CMP_LT_OQ))};
}
PF_INLINE uint32_t less_bits(F16x x, F16x y) {
  const int lo = _mm256_movemask_ps(_mm256_cmp_ps(x.lo, y.lo, _CMP_LT_OQ));
  const int hi = _mm256_movemask_ps(_mm256_cmp_ps(x.hi, y.hi, _CMP_LT_OQ));
  return static_cast<uint32_t>(lo | hi << 8);
}
PF_INLINE __m256 lanes_of_byte(uint32_t bits) {  // all ones in lane i where bit i is set
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i spread = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(spread, bit));
}
PF_INLINE F16x where_bits(uint32_t bits, F16x a, F16x b) {
  return {_mm256_blendv_ps(b.lo, a.lo, lanes_of_byte(bits)), _mm256_blendv_ps(b.hi, a.hi, lanes_of_byte(bits >> 8))};
}

#else  // generic

struct F16x {
  float v[16];
};
#define PF_LANES(expr)                        \
  F16x r;                                     \
  for (int i = 0; i < 16; ++i) r.v[i] = expr; \
  return r
PF_INLINE F16x load(const float* p) { PF_LANES(p[i]); }
PF_INLINE void store(float* p, F16x a) { memcpy(p, a.v, sizeof a.v); }
PF_INLINE F16x set1(float x) { PF_LANES(x); }
PF_INLINE F16x add(F16x a, F16x b) { PF_LANES(a.v[i] + b.v[i]); }
PF_INLINE F16x sub(F16x a, F16x b) { PF_LANES(a.v[i] - b.v[i]); }
PF_INLINE F16x mul(F16x a, F16x b) { PF_LANES(a.v[i] * b.v[i]); }
PF_INLINE F16x div(F16x a, F16x b) { PF_LANES(a.v[i] / b.v[i]); }
PF_INLINE F16x fma(F16x a, F16x b, F16x c) { PF_LANES(a.v[i] * b.v[i] + c.v[i]); }
PF_INLINE F16x max(F16x a, F16x b) { PF_LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
PF_INLINE F16x min(F16x a, F16x b) { PF_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
PF_INLINE F16x load_half(const uint16_t* p) { PF_LANES(half_to_float(p[i])); }
PF_INLINE void store_half(uint16_t* p, F16x a) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_half(a.v[i]);
}
PF_INLINE F16x load_bfloat(const uint16_t* p) { PF_LANES(bfloat_to_float(p[i])); }
PF_INLINE float exp2i_one(float n) {
  const int32_t exponent = n == n ? static_cast<int32_t>(n) : 0;  // converting NaN would be undefined
  const uint32_t bits = static_cast<uint32_t>(exponent + 127) << 23;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
PF_INLINE F16x exp2i(F16x n) { PF_LANES(exp2i_one(n.v[i])); }
PF_INLINE F16x round(F16x a) { PF_LANES(nearbyintf(a.v[i])); }
PF_INLINE void split(F16x a, float* sixteen) { memcpy(sixteen, a.v, sizeof a.v); }
PF_INLINE F16x where_less(F16x x, F16x y, F16x a, F16x b) { PF_LANES(x.v[i] < y.v[i] ? a.v[i] : b.v[i]); }
PF_INLINE uint32_t less_bits(F16x x, F16x y) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= (x.v[i] < y.v[i] ? 1u : 0u) << i;
  return bits;
}
PF_INLINE F16x where_bits(uint32_t bits, F16x a, F16x b) { PF_LANES((bits >> i & 1u) != 0 ? a.v[i] : b.v[i]); }
#undef PF_LANES

#endif

PF_INLINE F16x zero() { return set1(0.0f); }

// Loads n <= 16 floats, the other lanes are `fill`.
PF_INLINE F16x load_partial(const float* p, int64_t n, float fill) {
  float t[16];
  for (int i = 0; i < 16; ++i) t[i] = i < n ? p[i] : fill;
  return load(t);
}
PF_INLINE void store_partial(float* p, F16x a, int64_t n) {
  float t[16];
  store(t, a);
  for (int64_t i = 0; i < n; ++i) p[i] = t[i];
}

// The same of a row of which n values are left, sixteen or more or fewer; lanes past its end are 0, which no sum
// notices.
PF_INLINE F16x load_left(const float* p, int64_t n) { return n >= 16 ? load(p) : load_partial(p, n, 0.0f); }
PF_INLINE void store_left(float* p, F16x a, int64_t n) {
  if (n >= 16) {
    store(p, a);
  } else {
    store_partial(p, a, n);
  }
}

PF_INLINE float reduce_add(F16x a) {
  float t[16];
  split(a, t);
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) t[i] = t[i] + t[i + w];
  return t[0];
}
PF_INLINE float reduce_max(F16x a) {
  float t[16];
  split(a, t);
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) t[i] = t[i] > t[i + w] ? t[i] : t[i + w];
  return t[0];
}

// e^x for x <= 88; results below FLT_MIN flush to 0, exp(-inf) = 0, and NaN stays NaN. Cody-Waite reduction by ln 2 and
// the degree-5 minimax polynomial of Cephes expf (S. Moshier, 1992); relative error below 2^-22.
PF_INLINE F16x exp(F16x x) {
  const F16x lowest = set1(-87.33654f);
  const F16x c = max(lowest, x);
  const F16x n = round(mul(c, set1(1.44269504088896341f)));
  F16x r = fma(n, set1(-0.693359375f), c);
  r = fma(n, set1(2.12194440e-4f), r);
  F16x p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  const F16x y = mul(add(fma(mul(p, r), r, r), set1(1.0f)), exp2i(n));
  return where_less(x, lowest, zero(), y);
}

}  // namespace
}  // namespace PF_ISA
}  // namespace pf
