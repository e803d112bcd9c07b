// Counter-based random words: Philox4x32-10 of J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as
// easy as 1, 2, 3" (SC 2011), whose constants these are; sixteen blocks of four words at once.
//
// Of 64 neighbouring tokens, sixteen blocks give the words: token t uses word (t % 64) / 16 of block 16 (t / 64) + t %
// 16, so that each word of the sixteen blocks is one vector of neighbouring tokens.
#pragma once
#include <math.h>
#include <stdint.h>

#include "../../cpu/simd.h"

namespace pf::PF_ISA {
namespace {

// Sixteen unsigned integers.
#if PF_ISA_LEVEL == PF_ISA_avx512

struct U16x {
  __m512i v;
};
PF_INLINE U16x load(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
PF_INLINE void store(uint32_t* p, U16x a) { _mm512_storeu_si512(p, a.v); }
PF_INLINE U16x set1(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
PF_INLINE U16x bit_xor(U16x a, U16x b) { return {_mm512_xor_si512(a.v, b.v)}; }
// The upper and lower halves of the 64-bit products a * factor.
PF_INLINE void multiply(U16x a, uint32_t factor, U16x* high, U16x* low) {
  const __m512i f = _mm512_set1_epi32(static_cast<int>(factor));
  const __m512i even = _mm512_mul_epu32(a.v, f), odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), f);
  *high = {_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd)};
  *low = {_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32))};
}

#elif PF_ISA_LEVEL == PF_ISA_avx2

struct U16x {
  __m256i lo, hi;
};
PF_INLINE U16x load(const uint32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
PF_INLINE void store(uint32_t* p, U16x a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}
PF_INLINE U16x set1(uint32_t x) {
  const __m256i v = _mm256_set1_epi32(static_cast<int>(x));
  return {v, v};
}
PF_INLINE U16x bit_xor(U16x a, U16x b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
PF_INLINE void multiply_half(__m256i a, __m256i f, __m256i* high, __m256i* low) {
  const __m256i even = _mm256_mul_epu32(a, f), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), f);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
PF_INLINE void multiply(U16x a, uint32_t factor, U16x* high, U16x* low) {
  const __m256i f = _mm256_set1_epi32(static_cast<int>(factor));
  multiply_half(a.lo, f, &high->lo, &low->lo);
  multiply_half(a.hi, f, &high->hi, &low->hi);
}

#else  // generic

struct U16x {
  uint32_t v[16];
};
PF_INLINE U16x load(const uint32_t* p) {
  U16x r;
  memcpy(r.v, p, sizeof r.v);
  return r;
}
PF_INLINE void store(uint32_t* p, U16x a) { memcpy(p, a.v, sizeof a.v); }
PF_INLINE U16x set1(uint32_t x) {
  U16x r;
  for (int i = 0; i < 16; ++i) r.v[i] = x;
  return r;
}
PF_INLINE U16x bit_xor(U16x a, U16x b) {
  for (int i = 0; i < 16; ++i) a.v[i] ^= b.v[i];
  return a;
}
PF_INLINE void multiply(U16x a, uint32_t factor, U16x* high, U16x* low) {
  for (int i = 0; i < 16; ++i) {
    const uint64_t product = static_cast<uint64_t>(a.v[i]) * factor;
    high->v[i] = static_cast<uint32_t>(product >> 32);
    low->v[i] = static_cast<uint32_t>(product);
  }
}

#endif

// What one row's noise is a function of, besides the token.
struct NoiseKey {
  uint32_t seed_low, seed_high, stream, position;
};

// words[16 w + i] is word w of block blocks[i].
inline void philox(const NoiseKey& key, const uint32_t* blocks, uint32_t* words) {
  U16x c0 = load(blocks), c1 = set1(key.position), c2 = set1(key.stream), c3 = set1(0u);
  uint32_t k0 = key.seed_low, k1 = key.seed_high;
  for (int round = 0; round < 10; ++round) {
    U16x high0, low0, high1, low1;
    multiply(c0, 0xD2511F53u, &high0, &low0);
    multiply(c2, 0xCD9E8D57u, &high1, &low1);
    c0 = bit_xor(bit_xor(high1, c1), set1(k0));
    c1 = low1;
    c2 = bit_xor(bit_xor(high0, c3), set1(k1));
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  store(words, c0);
  store(words + 16, c1);
  store(words + 32, c2);
  store(words + 48, c3);
}

constexpr int64_t kNoiseBlock = 64;  // tokens whose noise is computed at once

// Words of the 64 tokens from `token`, a multiple of 64, on.
inline void noise_of_block(const NoiseKey& key, int64_t token, uint32_t* words) {
  uint32_t blocks[16];
  for (uint32_t i = 0; i < 16; ++i) blocks[i] = static_cast<uint32_t>(token / 4) + i;
  philox(key, blocks, words);
}

// Words of any sixteen tokens.
inline void noise_of(const NoiseKey& key, const int32_t* tokens, uint32_t* words) {
  uint32_t blocks[16], all[64];
  for (int i = 0; i < 16; ++i) blocks[i] = static_cast<uint32_t>(tokens[i] / 64 * 16 + tokens[i] % 16);
  philox(key, blocks, all);
  for (int i = 0; i < 16; ++i) words[i] = all[tokens[i] % 64 / 16 * 16 + i];
}

// A standard Gumbel variable; in double, since u lies within 2^-33 of 1 at times.
inline float gumbel(uint32_t word) {
  const double u = (static_cast<double>(word) + 0.5) * 0x1p-32;
  return static_cast<float>(-::log(-::log(u)));
}
// The largest is -log(-log(1 - 2^-33)) = 22.88.
constexpr float kLargestGumbel = 23.0f;

}  // namespace
}  // namespace pf::PF_ISA
