// The 128-bit name of a block's content: its own tokens, everything before them, and what else the cache depends on.
#pragma once
#include <cstdint>
#include <span>

namespace pf {

struct Hash128 {
  uint64_t lo = 0, hi = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

// Hash of a block from the hash of the block before it (all zero for the first), its extra key and its tokens.
//
// Two lanes of 64-bit multiply-and-fold, each with constants of its own. The hash only narrows a search: the pool
// compares tokens, keys and prefixes exactly on a hit, so a collision costs time and never correctness.
inline Hash128 hash_block(const Hash128& parent, int64_t extra, std::span<const int32_t> tokens) {
  const auto fold = [](uint64_t a, uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  constexpr uint64_t kLane0 = 0x9e3779b97f4a7c15u, kLane1 = 0xc2b2ae3d27d4eb4fu;  // odd, from sqrt(5) and sqrt(3)
  uint64_t a = fold(parent.lo ^ kLane0, parent.hi ^ kLane1) ^ static_cast<uint64_t>(extra);
  uint64_t b = fold(parent.hi + kLane0, parent.lo + kLane1) + static_cast<uint64_t>(extra);
  for (const int32_t token : tokens) {
    const uint64_t word = static_cast<uint32_t>(token) + 1u;
    a = fold(a ^ word, kLane0) + word;
    b = fold(b + word, kLane1) ^ (word << 32);
  }
  return {fold(a, kLane1) ^ b, fold(b, kLane0) + a};
}

}  // namespace pf
