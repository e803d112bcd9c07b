// How the CPU backend keeps weights: one layout for every instruction set. Shared by packing and kernels.
//
// A tile is 16 consecutive output columns (rows of W) for all of K. Inside, a quad is 4 consecutive k; one quad of all
// 16 columns is 64 bytes, which is two AVX2 registers, one AVX-512 register or one row of an AMX tile:
//
//            column 0      column 1             column 15
//          k k+1 k+2 k+3 k k+1 k+2 k+3  ...  k k+1 k+2 k+3       q[16][4]
//
// A group of 32 k has quads 0 .. 7. Four-bit codes: vector i holds quad i in its low nibbles and quad i + 4 in its high
// ones (Q4_0 and Q4_1 files pair them so, too). The upper two bits of six-bit codes: vector i holds quad i + 2 b in
// bits 2 b and 2 b + 1. Float formats are [K][16] elements. Columns past the end of a part are zeros.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../../../runtime/backend.h"
#include "../linear.h"

namespace pf {

// Names what this header lays down. Change it with the layout: files of packed weights live longer than a process.
inline constexpr const char* kPackedLayout = "cpu-tiles-1";

inline constexpr int kTile = 16;

struct TileQ8_0 {  // one group
  int8_t q[8][kTile][4];
  uint16_t d[kTile];
};
struct TileQ4_0 {
  uint8_t q[4][kTile][4];
  uint16_t d[kTile];
};
struct TileQ4_1 {
  uint8_t q[4][kTile][4];
  uint16_t d[kTile], m[kTile];
};
struct TileQ4_K {  // one super-block: 8 groups
  uint16_t d[kTile], dmin[kTile];
  struct Group {
    uint8_t q[4][kTile][4];
    uint8_t scale[kTile], min[kTile];
  } groups[8];
};
struct TileQ6_K {
  uint16_t d[kTile];
  struct Group {
    uint8_t low[4][kTile][4];
    uint8_t high[2][kTile][4];
    int8_t scale[kTile][2];  // of the first and the second 16 k
  } groups[8];
};
static_assert(sizeof(TileQ8_0) == 544 && sizeof(TileQ4_0) == 288 && sizeof(TileQ4_1) == 320);
static_assert(sizeof(TileQ4_K) == 2368 && sizeof(TileQ6_K) == 3360);

struct PackedPart {
  int32_t format;  // PfFormat
  int64_t first_row, rows;
  int64_t first_tile, tiles;  // tiles are numbered through all parts
  size_t tile_bytes;
  const uint8_t* data;  // [tiles][tile_bytes]
};

// What PfWeight is on the CPU. Plain data, so that kernel files may read it.
struct PackedWeight {
  int64_t rows = 0, cols = 0;
  int64_t tiles = 0;
  const PackedPart* parts = nullptr;
  int32_t num_parts = 0;
};

namespace {  // kernel files are compiled with various flags: no symbol of this header may be shared among them

constexpr bool is_quantized(int32_t format) { return format >= PF_FMT_Q8_0; }

inline const PackedPart& part_of_tile(const PackedWeight& weight, int64_t tile) {
  const PackedPart* part = weight.parts;
  while (tile >= part->first_tile + part->tiles) ++part;
  return *part;
}

}  // namespace
}  // namespace pf
