// The integer codes of a KV cache and what is multiplied with them: how large they may be, their scales, and the dot
// product of int16 pairs. CpuKvCache (ops/cpu/kernels.h) tells where they lie.
#pragma once
#include "../../cpu/kernels.h"
#include "../../cpu/simd.h"
#include "../../linear/cpu/int_simd.h"

namespace pf::PF_ISA {
namespace {

// Codes<T>::used: whether a cache's elements T are codes, not floats or the bits of halves.
// Sums of products must stay below 2^31 whatever the data: of kKeyGroup channels, and of the 64 positions of a chunk.
template <class T>
struct Codes {
  static constexpr bool used = false;
  using Scale = float;
};
template <>
struct Codes<int8_t> {
  static constexpr bool used = true;
  using Scale = float;
  static constexpr int kKeyBits = 7, kValueBits = 7;
  static constexpr float kLargestQuery = 32767.0f, kLargestWeight = 32767.0f;
};
// Keys reach 2^13 and values 2^12: 32 * 8192 * 8191 and 64 * 4096 * 8191 are 2^31 - 2^18.
template <>
struct Codes<int16_t> {
  static constexpr bool used = true;
  using Scale = uint8_t;
  static constexpr int kKeyBits = 13, kValueBits = 12;
  static constexpr float kLargestQuery = 8191.0f, kLargestWeight = 8191.0f;
};

PF_INLINE int64_t padded(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

// Thirty-two codes as [16][2] int16.
PF_INLINE Shorts load_codes(const int8_t* p) { return widen(p); }
PF_INLINE Shorts load_codes(const int16_t* p) { return load_shorts(p); }

// Sixteen scales. A byte is the exponent of a float: 2^(byte - 127), but 0 for 0 and infinity for 255.
PF_INLINE F16x load_scales(const float* p) { return load(p); }
#if PF_ISA_LEVEL == PF_ISA_avx512
PF_INLINE F16x load_scales(const uint8_t* p) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bytes, 23))};
}
#elif PF_ISA_LEVEL == PF_ISA_avx2
PF_INLINE F16x load_scales(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)), 23))};
}
#else
PF_INLINE F16x load_scales(const uint8_t* p) {
  F16x scales;
  for (int i = 0; i < 16; ++i) scales.v[i] = bits_to_float(static_cast<uint32_t>(p[i]) << 23);
  return scales;
}
#endif

// sum + a[0] b[0] + a[1] b[1] in every lane, and the sum to start with; sixteen floats rounded to nearest even, which
// must lie within int16.
#if PF_ISA_LEVEL == PF_ISA_avx512
PF_INLINE Ints zero_ints() { return {_mm512_setzero_si512()}; }
#ifdef __AVX512VNNI__
// Written out, since for the intrinsic GCC 12 copies every sum before and after it.
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
#else
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) { return add(sum, dot2(a, b)); }
#endif
PF_INLINE void store_rounded(int16_t* p, F16x a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a.v)));
}
#elif PF_ISA_LEVEL == PF_ISA_avx2
PF_INLINE Ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
#ifdef __AVXVNNI__
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) {
  return {_mm256_dpwssd_avx_epi32(sum.lo, a.lo, b.lo), _mm256_dpwssd_avx_epi32(sum.hi, a.hi, b.hi)};
}
#else
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) { return add(sum, dot2(a, b)); }
#endif
PF_INLINE void store_rounded(int16_t* p, F16x a) {
  const __m256i shorts = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));  // 0-3 8-11 4-7 12-15
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(shorts, 0xd8));
}
#else
PF_INLINE Ints zero_ints() { return Ints{}; }
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) { return add(sum, dot2(a, b)); }
PF_INLINE void store_rounded(int16_t* p, F16x a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int16_t>(nearbyintf(a.v[i]));
}
#endif

}  // namespace
}  // namespace pf::PF_ISA
