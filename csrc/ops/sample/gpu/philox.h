// The noise of the op `sample` (ops/sample/sample.h): Philox4x32-10 of J. Salmon, M. Moraes, R. Dror and D. Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), whose constants these are, one block of four words at a
// time.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

// What one row's noise is a function of, besides the token.
struct NoiseKey {
  uint32_t seed_low, seed_high, stream, position;
};

// Word w of block b is the noise of token 64 (b / 16) + 16 w + b % 16.
struct NoiseBlock {
  uint32_t words[4];
};
GPU_HOST_DEVICE int noise_block_of(int token) { return token / 64 * 16 + token % 16; }
GPU_HOST_DEVICE int noise_word_of(int token) { return token % 64 / 16; }
GPU_HOST_DEVICE int token_of_noise(int block, int word) { return block / 16 * 64 + 16 * word + block % 16; }

GPU_HOST_DEVICE NoiseBlock philox(const NoiseKey& key, uint32_t block) {
  uint32_t c0 = block, c1 = key.position, c2 = key.stream, c3 = 0, k0 = key.seed_low, k1 = key.seed_high;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = static_cast<uint32_t>(p1);
    c2 = n2;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A standard Gumbel variable; in double, since u lies within 2^-33 of 1 at times. At most 22.88.
GPU_HOST_DEVICE float gumbel(uint32_t word) {
  const double u = (static_cast<double>(word) + 0.5) * 0x1p-32;
  return static_cast<float>(-log(-log(u)));
}
constexpr float kLargestGumbel = 23.0f;

}  // namespace pf::gpu
