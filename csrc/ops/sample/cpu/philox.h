// Counter-based random words: Philox4x32-10 of J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as
// easy as 1, 2, 3" (SC 2011), whose constants these are. Plain integer loops that the compiler vectorizes.
#pragma once
#include <math.h>
#include <stdint.h>

#include "../../cpu/simd.h"

namespace pf::PF_ISA {
namespace {

// What one row's noise is a function of, besides the token.
struct NoiseKey {
  uint32_t seed_low, seed_high, stream, position;
};

// The four words of block `index`, that is of tokens 4 index ... 4 index + 3.
PF_INLINE void philox_block(const NoiseKey& key, uint32_t index, uint32_t* words) {
  uint32_t c0 = index, c1 = key.position, c2 = key.stream, c3 = 0;
  uint32_t k0 = key.seed_low, k1 = key.seed_high;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(c0) * 0xD2511F53u, p1 = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// Words of the 64 tokens from `token`, a multiple of 4, on.
inline void noise_of_64(const NoiseKey& key, int64_t token, uint32_t* words) {
  const uint32_t first = static_cast<uint32_t>(token / 4);
  for (uint32_t i = 0; i < 16; ++i) philox_block(key, first + i, words + 4 * i);
}

inline uint32_t noise_of(const NoiseKey& key, int32_t token) {
  uint32_t words[4];
  philox_block(key, static_cast<uint32_t>(token) / 4, words);
  return words[token % 4];
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
