// Integer vectors of one quad of a tile (16 columns x 4 k), beside simd.h's sixteen floats. All operations are exact on
// the ranges that kernels use, so the instruction sets agree.
#pragma once
#include "../../cpu/simd.h"

namespace pf {
namespace PF_ISA {
namespace {

// A compile-time index, and fn(Index<0>), … fn(Index<N - 1>) in a row.
template <int I>
struct Index {
  static constexpr int value = I;
};
template <int N, class Fn>
PF_INLINE void unroll(Fn&& fn) {
  if constexpr (N > 0) {
    unroll<N - 1>(fn);
    fn(Index<N - 1>{});
  }
}

// Sets with VNNI add the four products of a column to int32 at once. Tests on machines without it emulate that.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(PF_EMULATED_VNNI)
#define PF_VNNI 1
#else
#define PF_VNNI 0
#endif

#if PF_ISA_LEVEL == PF_ISA_avx512

struct Bytes {  // [16 columns][4]
  __m512i v;
};
struct Shorts {  // [16 columns][2]
  __m512i v;
};
struct Ints {  // [16 columns]
  __m512i v;
};
PF_INLINE Bytes load_bytes(const void* p) { return {_mm512_loadu_si512(p)}; }
PF_INLINE void store_bytes(void* p, Bytes a) { _mm512_storeu_si512(p, a.v); }
PF_INLINE Shorts load_shorts(const int16_t* p) { return {_mm512_loadu_si512(p)}; }
PF_INLINE void store_shorts(int16_t* p, Shorts a) { _mm512_storeu_si512(p, a.v); }
// Four bytes, or two int16, repeated in every column.
PF_INLINE Bytes repeat4(const int8_t* p) {
  int32_t word;
  memcpy(&word, p, 4);
  return {_mm512_set1_epi32(word)};
}
PF_INLINE Shorts repeat2(const int16_t* p) {
  int32_t word;
  memcpy(&word, p, 4);
  return {_mm512_set1_epi32(word)};
}
// Field `I` of `Bits` bits of each byte.
template <int Bits, int I>
PF_INLINE Bytes field(Bytes a) {
  const __m512i mask = _mm512_set1_epi8((1 << Bits) - 1);
  return {_mm512_and_si512(I == 0 ? a.v : _mm512_srli_epi16(a.v, I * Bits), mask)};
}
// low + 16 * high for low < 16.
PF_INLINE Bytes join(Bytes low, Bytes high) { return {_mm512_or_si512(low.v, _mm512_slli_epi16(high.v, 4))}; }
PF_INLINE Bytes abs(Bytes a) { return {_mm512_abs_epi8(a.v)}; }
// a where w >= 0 and -a where w < 0 (or anything where w == 0).
PF_INLINE Bytes with_sign(Bytes a, Bytes w) {
  return {_mm512_mask_sub_epi8(a.v, _mm512_movepi8_mask(w.v), _mm512_setzero_si512(), a.v)};
}
// u[0] s[0] + u[1] s[1] of neighbours, u unsigned and s signed; the sum must fit int16.
PF_INLINE Shorts dot2(Bytes u, Bytes s) { return {_mm512_maddubs_epi16(u.v, s.v)}; }
PF_INLINE Ints dot2(Shorts a, Shorts b) { return {_mm512_madd_epi16(a.v, b.v)}; }
PF_INLINE Ints sum2(Shorts a) { return {_mm512_madd_epi16(a.v, _mm512_set1_epi16(1))}; }
PF_INLINE Shorts add(Shorts a, Shorts b) { return {_mm512_add_epi16(a.v, b.v)}; }
PF_INLINE Ints add(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
PF_INLINE Ints sub(Ints a, Ints b) { return {_mm512_sub_epi32(a.v, b.v)}; }
#if PF_VNNI
PF_INLINE Ints no_ints() { return {_mm512_setzero_si512()}; }
PF_INLINE Ints mul(Ints a, Ints b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
#ifdef PF_EMULATED_VNNI
PF_INLINE Ints dot4(Ints sum, Bytes u, Bytes s) {
  const __m512i even =
      _mm512_madd_epi16(_mm512_and_si512(u.v, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(s.v, 8), 8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(u.v, 8), _mm512_srai_epi16(s.v, 8));
  return {_mm512_add_epi32(sum.v, _mm512_add_epi32(even, odd))};
}
#else
PF_INLINE Ints dot4(Ints sum, Bytes u, Bytes s) { return {_mm512_dpbusd_epi32(sum.v, u.v, s.v)}; }
#endif
PF_INLINE Shorts repeat_short(int16_t x) { return {_mm512_set1_epi16(x)}; }
// w + 128 as unsigned bytes.
PF_INLINE Bytes offset128(Bytes w) { return {_mm512_xor_si512(w.v, _mm512_set1_epi8(-128))}; }
// int16 `I` of each column.
template <int I>
PF_INLINE Ints short_at(Shorts a) {
  return {_mm512_srai_epi32(I == 0 ? _mm512_slli_epi32(a.v, 16) : a.v, 16)};
}
#endif
PF_INLINE F16x to_float(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }
PF_INLINE F16x load_u8(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
// Thirty-two int8 as [16][2] int16.
PF_INLINE Shorts widen(const int8_t* p) {
  return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
PF_INLINE Shorts times32(Shorts a) { return {_mm512_slli_epi16(a.v, 5)}; }
// Both int16 of a column become its int16 `I`.
template <int I>
PF_INLINE Shorts both(Shorts a) {
  return {_mm512_mask_mov_epi16(a.v, I == 0 ? 0xaaaaaaaau : 0x55555555u,
                                I == 0 ? _mm512_slli_epi32(a.v, 16) : _mm512_srli_epi32(a.v, 16))};
}
// Rounds to nearest even; values must lie within [-127, 127].
PF_INLINE void store_rounded(int8_t* p, F16x a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
// Bits of the largest |x| of both: they order as integers do, infinity above all numbers and NaN above infinity.
PF_INLINE uint32_t largest_magnitude(F16x a, F16x b) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a.v), mask),
                                                  _mm512_and_si512(_mm512_castps_si512(b.v), mask)));
}

#elif PF_ISA_LEVEL == PF_ISA_avx2

struct Bytes {
  __m256i lo, hi;
};
struct Shorts {
  __m256i lo, hi;
};
struct Ints {
  __m256i lo, hi;
};
PF_INLINE __m256i load_half_vector(const void* p, int i) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p) + i);
}
PF_INLINE void store_half_vector(void* p, int i, __m256i a) { _mm256_storeu_si256(static_cast<__m256i*>(p) + i, a); }
PF_INLINE Bytes load_bytes(const void* p) { return {load_half_vector(p, 0), load_half_vector(p, 1)}; }
PF_INLINE void store_bytes(void* p, Bytes a) {
  store_half_vector(p, 0, a.lo);
  store_half_vector(p, 1, a.hi);
}
PF_INLINE Shorts load_shorts(const int16_t* p) { return {load_half_vector(p, 0), load_half_vector(p, 1)}; }
PF_INLINE void store_shorts(int16_t* p, Shorts a) {
  store_half_vector(p, 0, a.lo);
  store_half_vector(p, 1, a.hi);
}
PF_INLINE __m256i repeat_word(const void* p) {
  int32_t word;
  memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}
PF_INLINE Bytes repeat4(const int8_t* p) {
  const __m256i word = repeat_word(p);
  return {word, word};
}
PF_INLINE Shorts repeat2(const int16_t* p) {
  const __m256i word = repeat_word(p);
  return {word, word};
}
template <int Bits, int I>
PF_INLINE __m256i field_half(__m256i a) {
  const __m256i mask = _mm256_set1_epi8((1 << Bits) - 1);
  return _mm256_and_si256(I == 0 ? a : _mm256_srli_epi16(a, I * Bits), mask);
}
template <int Bits, int I>
PF_INLINE Bytes field(Bytes a) {
  return {field_half<Bits, I>(a.lo), field_half<Bits, I>(a.hi)};
}
PF_INLINE Bytes join(Bytes low, Bytes high) {
  return {_mm256_or_si256(low.lo, _mm256_slli_epi16(high.lo, 4)),
          _mm256_or_si256(low.hi, _mm256_slli_epi16(high.hi, 4))};
}
PF_INLINE Bytes abs(Bytes a) { return {_mm256_abs_epi8(a.lo), _mm256_abs_epi8(a.hi)}; }
PF_INLINE Bytes with_sign(Bytes a, Bytes w) { return {_mm256_sign_epi8(a.lo, w.lo), _mm256_sign_epi8(a.hi, w.hi)}; }
PF_INLINE Shorts dot2(Bytes u, Bytes s) { return {_mm256_maddubs_epi16(u.lo, s.lo), _mm256_maddubs_epi16(u.hi, s.hi)}; }
PF_INLINE Ints dot2(Shorts a, Shorts b) { return {_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)}; }
PF_INLINE Ints sum2(Shorts a) {
  const __m256i one = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(a.lo, one), _mm256_madd_epi16(a.hi, one)};
}
PF_INLINE Shorts add(Shorts a, Shorts b) { return {_mm256_add_epi16(a.lo, b.lo), _mm256_add_epi16(a.hi, b.hi)}; }
PF_INLINE Ints add(Ints a, Ints b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
PF_INLINE Ints sub(Ints a, Ints b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
#if PF_VNNI
PF_INLINE Ints no_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
PF_INLINE Ints mul(Ints a, Ints b) { return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
#ifdef PF_EMULATED_VNNI
PF_INLINE __m256i dot4_half(__m256i sum, __m256i u, __m256i s) {
  const __m256i even =
      _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
#else
PF_INLINE __m256i dot4_half(__m256i sum, __m256i u, __m256i s) { return _mm256_dpbusd_avx_epi32(sum, u, s); }
#endif
PF_INLINE Ints dot4(Ints sum, Bytes u, Bytes s) {
  return {dot4_half(sum.lo, u.lo, s.lo), dot4_half(sum.hi, u.hi, s.hi)};
}
PF_INLINE Shorts repeat_short(int16_t x) { return {_mm256_set1_epi16(x), _mm256_set1_epi16(x)}; }
PF_INLINE Bytes offset128(Bytes w) {
  const __m256i bias = _mm256_set1_epi8(-128);
  return {_mm256_xor_si256(w.lo, bias), _mm256_xor_si256(w.hi, bias)};
}
template <int I>
PF_INLINE Ints short_at(Shorts a) {
  return {_mm256_srai_epi32(I == 0 ? _mm256_slli_epi32(a.lo, 16) : a.lo, 16),
          _mm256_srai_epi32(I == 0 ? _mm256_slli_epi32(a.hi, 16) : a.hi, 16)};
}
#endif
PF_INLINE F16x to_float(Ints a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
PF_INLINE F16x load_u8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}
PF_INLINE Shorts widen(const int8_t* p) {
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
}
PF_INLINE Shorts times32(Shorts a) { return {_mm256_slli_epi16(a.lo, 5), _mm256_slli_epi16(a.hi, 5)}; }
template <int I>
PF_INLINE __m256i both_half(__m256i a) {
  return I == 0 ? _mm256_blend_epi16(a, _mm256_slli_epi32(a, 16), 0xaa)
                : _mm256_blend_epi16(a, _mm256_srli_epi32(a, 16), 0x55);
}
template <int I>
PF_INLINE Shorts both(Shorts a) {
  return {both_half<I>(a.lo), both_half<I>(a.hi)};
}
PF_INLINE void store_rounded(int8_t* p, F16x a) {
  const __m256i shorts = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));  // 0-3 8-11 4-7 12-15
  const __m256i ordered = _mm256_permute4x64_epi64(shorts, 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}
PF_INLINE __m256i magnitude_bits(__m256 a) {
  return _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffffff));
}
PF_INLINE uint32_t largest_magnitude(F16x a, F16x b) {
  const __m256i eight = _mm256_max_epu32(_mm256_max_epu32(magnitude_bits(a.lo), magnitude_bits(a.hi)),
                                         _mm256_max_epu32(magnitude_bits(b.lo), magnitude_bits(b.hi)));
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1))));
}

#else  // generic

struct Bytes {
  uint8_t v[64];
};
struct Shorts {
  int16_t v[32];
};
struct Ints {
  int32_t v[16];
};
#define PF_EACH(type, n, expr)               \
  type r;                                    \
  for (int i = 0; i < n; ++i) r.v[i] = expr; \
  return r
PF_INLINE Bytes load_bytes(const void* p) {
  Bytes r;
  memcpy(r.v, p, sizeof r.v);
  return r;
}
PF_INLINE void store_bytes(void* p, Bytes a) { memcpy(p, a.v, sizeof a.v); }
PF_INLINE Shorts load_shorts(const int16_t* p) { PF_EACH(Shorts, 32, p[i]); }
PF_INLINE void store_shorts(int16_t* p, Shorts a) { memcpy(p, a.v, sizeof a.v); }
PF_INLINE Bytes repeat4(const int8_t* p) { PF_EACH(Bytes, 64, static_cast<uint8_t>(p[i % 4])); }
PF_INLINE Shorts repeat2(const int16_t* p) { PF_EACH(Shorts, 32, p[i % 2]); }
template <int Bits, int I>
PF_INLINE Bytes field(Bytes a) {
  PF_EACH(Bytes, 64, static_cast<uint8_t>((a.v[i] >> (I * Bits)) & ((1 << Bits) - 1)));
}
PF_INLINE Bytes join(Bytes low, Bytes high) { PF_EACH(Bytes, 64, static_cast<uint8_t>(low.v[i] | (high.v[i] << 4))); }
PF_INLINE int as_signed(uint8_t byte) { return static_cast<int8_t>(byte); }
PF_INLINE Bytes abs(Bytes a) {
  PF_EACH(Bytes, 64, static_cast<uint8_t>(as_signed(a.v[i]) < 0 ? -as_signed(a.v[i]) : a.v[i]));
}
PF_INLINE Bytes with_sign(Bytes a, Bytes w) {
  PF_EACH(Bytes, 64, static_cast<uint8_t>(as_signed(w.v[i]) < 0 ? -as_signed(a.v[i]) : a.v[i]));
}
PF_INLINE Shorts dot2(Bytes u, Bytes s) {
  PF_EACH(Shorts, 32,
          static_cast<int16_t>(u.v[2 * i] * as_signed(s.v[2 * i]) + u.v[2 * i + 1] * as_signed(s.v[2 * i + 1])));
}
PF_INLINE Ints dot2(Shorts a, Shorts b) {
  PF_EACH(Ints, 16, a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1]);
}
PF_INLINE Ints sum2(Shorts a) { PF_EACH(Ints, 16, a.v[2 * i] + a.v[2 * i + 1]); }
PF_INLINE Shorts add(Shorts a, Shorts b) { PF_EACH(Shorts, 32, static_cast<int16_t>(a.v[i] + b.v[i])); }
PF_INLINE Ints add(Ints a, Ints b) { PF_EACH(Ints, 16, a.v[i] + b.v[i]); }
PF_INLINE Ints sub(Ints a, Ints b) { PF_EACH(Ints, 16, a.v[i] - b.v[i]); }
PF_INLINE F16x to_float(Ints a) { PF_EACH(F16x, 16, static_cast<float>(a.v[i])); }
PF_INLINE F16x load_u8(const uint8_t* p) { PF_EACH(F16x, 16, static_cast<float>(p[i])); }
PF_INLINE Shorts widen(const int8_t* p) { PF_EACH(Shorts, 32, p[i]); }
PF_INLINE Shorts times32(Shorts a) { PF_EACH(Shorts, 32, static_cast<int16_t>(a.v[i] * 32)); }
template <int I>
PF_INLINE Shorts both(Shorts a) {
  PF_EACH(Shorts, 32, a.v[i / 2 * 2 + I]);
}
PF_INLINE void store_rounded(int8_t* p, F16x a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(nearbyintf(a.v[i]));
}
PF_INLINE uint32_t largest_magnitude(F16x a, F16x b) {
  uint32_t largest = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t bits = float_to_bits(i < 16 ? a.v[i] : b.v[i - 16]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}
#undef PF_EACH

#endif

// The sum over a group of four-bit codes times int8: 8 quads fit int16 (8 * 2 * 15 * 127 = 30,480).
#if PF_VNNI
using SumsU4 = Ints;
PF_INLINE SumsU4 first_u4(Bytes u, Bytes s) { return dot4(no_ints(), u, s); }
PF_INLINE SumsU4 next_u4(SumsU4 sums, Bytes u, Bytes s) { return dot4(sums, u, s); }
PF_INLINE Ints total(SumsU4 sums) { return sums; }
#else
using SumsU4 = Shorts;
PF_INLINE SumsU4 first_u4(Bytes u, Bytes s) { return dot2(u, s); }
PF_INLINE SumsU4 next_u4(SumsU4 sums, Bytes u, Bytes s) { return add(sums, dot2(u, s)); }
PF_INLINE Ints total(SumsU4 sums) { return sum2(sums); }
#endif

// Sum of sixteen int8.
PF_INLINE int sum16(const int8_t* p) {
#if PF_ISA_LEVEL == PF_ISA_generic
  int sum = 0;
  for (int i = 0; i < 16; ++i) sum += p[i];
  return sum;
#else  // |x - y| of bytes, summed by eights: of x + 128 and 0
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 2) - 16 * 128;
#endif
}

}  // namespace
}  // namespace PF_ISA
}  // namespace pf
