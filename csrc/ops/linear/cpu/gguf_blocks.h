// Quantized blocks as GGUF files store them, a row of W being a run of blocks. q are codes, d and m fp16.
#pragma once
#include <cstdint>
#include <cstring>

namespace pf {

struct BlockQ8_0 {  // 32 values d * q
  uint16_t d;
  int8_t q[32];
};
struct BlockQ4_0 {  // 32 values d * (q - 8): value i in the low nibble of byte i, value i + 16 in the high one
  uint16_t d;
  uint8_t q[16];
};
struct BlockQ4_1 {  // 32 values d * q + m, codes as in Q4_0
  uint16_t d, m;
  uint8_t q[16];
};
struct BlockQ4_K {  // 8 groups of 32 values (d * scale) * q - (dmin * min); groups 2 i and 2 i + 1 share 32 bytes of q
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t q[128];

  // The scales and mins of a group are six-bit numbers: those of groups 0 .. 3 lie in the lower bits of bytes 0 .. 3
  // and 4 .. 7, the others in nibbles of bytes 8 .. 11 with their upper two bits above the former.
  uint8_t scale(int group) const {
    if (group < 4) return scales[group] & 63;
    return static_cast<uint8_t>((scales[group + 4] & 15) | ((scales[group - 4] >> 6) << 4));
  }
  uint8_t min(int group) const {
    if (group < 4) return scales[group + 4] & 63;
    return static_cast<uint8_t>((scales[group + 4] >> 4) | ((scales[group] >> 6) << 4));
  }
};
struct BlockQ6_K {  // 16 groups of 16 values (d * scale) * (q - 32)
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t d;
};
static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ6_K) == 210);

// Block i of a row. The bytes may lie at any address.
template <class Block>
Block read_block(const uint8_t* row, int64_t i) {
  Block block;
  std::memcpy(&block, row + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
  return block;
}

}  // namespace pf
