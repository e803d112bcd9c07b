// Packing: rows of W as files store them -> tiles of 16 columns, and back to float32 a row at a time.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "../../../runtime/device.h"
#include "../../../runtime/errors.h"
#include "../../../runtime/thread_pool.h"
#include "../../cpu/half.h"
#include "../../cpu/huge_pages.h"
#include "gguf_blocks.h"
#include "packed.h"

namespace pf {
namespace {

// --- one column of a tile
// ------------------------------------------------------------------------------------------------ A codec moves one
// row of W into column `c` of a zeroed tile, and out of it as float32. K is a multiple of its block.

template <class Element, float (*to_float)(Element)>
struct FloatCodec {
  static constexpr int64_t tile_bytes(int64_t K) { return K * kTile * static_cast<int64_t>(sizeof(Element)); }

  static void pack(const uint8_t* row, int64_t K, uint8_t* tile, int c) {
    auto* out = reinterpret_cast<Element*>(tile);
    for (int64_t k = 0; k < K; ++k) {
      std::memcpy(out + k * kTile + c, row + k * static_cast<int64_t>(sizeof(Element)), sizeof(Element));
    }
  }
  static void unpack(const uint8_t* tile, int64_t K, int c, float* out) {
    const auto* in = reinterpret_cast<const Element*>(tile);
    for (int64_t k = 0; k < K; ++k) out[k] = to_float(in[k * kTile + c]);
  }
};

float same(float f) { return f; }

template <class Block>
constexpr int64_t blocks_bytes(int64_t K, int block_cols) {
  return K / block_cols * static_cast<int64_t>(sizeof(Block));
}

struct CodecQ8_0 {
  static constexpr int64_t tile_bytes(int64_t K) { return blocks_bytes<TileQ8_0>(K, kGroup); }

  static void pack(const uint8_t* row, int64_t K, uint8_t* tile, int c) {
    auto* out = reinterpret_cast<TileQ8_0*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const auto block = read_block<BlockQ8_0>(row, g);
      for (int quad = 0; quad < 8; ++quad) std::memcpy(out[g].q[quad][c], block.q + 4 * quad, 4);
      out[g].d[c] = block.d;
    }
  }
  static void unpack(const uint8_t* tile, int64_t K, int c, float* out) {
    const auto* in = reinterpret_cast<const TileQ8_0*>(tile);
    for (int64_t k = 0; k < K; ++k) {
      const TileQ8_0& group = in[k / kGroup];
      out[k] = static_cast<float>(group.q[k % kGroup / 4][c][k % 4]) * half_to_float(group.d[c]);
    }
  }
};

// Code of value i = 0 .. 31 of column c among the four-bit codes of a group.
int nibble(const uint8_t (&q)[4][kTile][4], int c, int i) {
  const int byte = q[i % 16 / 4][c][i % 4];
  return i < 16 ? byte & 15 : byte >> 4;
}

struct CodecQ4_0 {
  static constexpr int64_t tile_bytes(int64_t K) { return blocks_bytes<TileQ4_0>(K, kGroup); }

  static void pack(const uint8_t* row, int64_t K, uint8_t* tile, int c) {
    auto* out = reinterpret_cast<TileQ4_0*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const auto block = read_block<BlockQ4_0>(row, g);
      for (int i = 0; i < 4; ++i) std::memcpy(out[g].q[i][c], block.q + 4 * i, 4);
      out[g].d[c] = block.d;
    }
  }
  static void unpack(const uint8_t* tile, int64_t K, int c, float* out) {
    const auto* in = reinterpret_cast<const TileQ4_0*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const float d = half_to_float(in[g].d[c]);
      for (int i = 0; i < kGroup; ++i) *out++ = d * static_cast<float>(nibble(in[g].q, c, i) - 8);
    }
  }
};

struct CodecQ4_1 {
  static constexpr int64_t tile_bytes(int64_t K) { return blocks_bytes<TileQ4_1>(K, kGroup); }

  static void pack(const uint8_t* row, int64_t K, uint8_t* tile, int c) {
    auto* out = reinterpret_cast<TileQ4_1*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const auto block = read_block<BlockQ4_1>(row, g);
      for (int i = 0; i < 4; ++i) std::memcpy(out[g].q[i][c], block.q + 4 * i, 4);
      out[g].d[c] = block.d;
      out[g].m[c] = block.m;
    }
  }
  static void unpack(const uint8_t* tile, int64_t K, int c, float* out) {
    const auto* in = reinterpret_cast<const TileQ4_1*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const float d = half_to_float(in[g].d[c]), m = half_to_float(in[g].m[c]);
      for (int i = 0; i < kGroup; ++i) *out++ = d * static_cast<float>(nibble(in[g].q, c, i)) + m;
    }
  }
};

struct CodecQ4_K {
  static constexpr int64_t tile_bytes(int64_t K) { return blocks_bytes<TileQ4_K>(K, kSuperBlock); }

  static void pack(const uint8_t* row, int64_t K, uint8_t* tile, int c) {
    auto* out = reinterpret_cast<TileQ4_K*>(tile);
    for (int64_t s = 0; s < K / kSuperBlock; ++s) {
      const auto block = read_block<BlockQ4_K>(row, s);
      out[s].d[c] = block.d;
      out[s].dmin[c] = block.dmin;
      for (int g = 0; g < 8; ++g) {
        TileQ4_K::Group& group = out[s].groups[g];
        uint32_t words[8];
        std::memcpy(words, block.q + g / 2 * 32, sizeof words);
        const int shift = 4 * (g % 2);
        for (int i = 0; i < 4; ++i) {
          const uint32_t codes = ((words[i] >> shift) & 0x0f0f0f0fu) | (((words[i + 4] >> shift) & 0x0f0f0f0fu) << 4);
          std::memcpy(group.q[i][c], &codes, 4);
        }
        group.scale[c] = block.scale(g);
        group.min[c] = block.min(g);
      }
    }
  }
  static void unpack(const uint8_t* tile, int64_t K, int c, float* out) {
    const auto* in = reinterpret_cast<const TileQ4_K*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const TileQ4_K::Group& group = in[g / 8].groups[g % 8];
      const float d = half_to_float(in[g / 8].d[c]) * static_cast<float>(group.scale[c]);
      const float m = half_to_float(in[g / 8].dmin[c]) * static_cast<float>(group.min[c]);
      for (int i = 0; i < kGroup; ++i) *out++ = d * static_cast<float>(nibble(group.q, c, i)) - m;
    }
  }
};

struct CodecQ6_K {
  static constexpr int64_t tile_bytes(int64_t K) { return blocks_bytes<TileQ6_K>(K, kSuperBlock); }

  // In a file each half of a super-block has 64 bytes of low nibbles and 32 bytes of upper bit pairs: its group t = 0
  // .. 3 takes nibbles t / 2 of bytes 32 (t % 2) .. and bit pairs t of all bytes.
  static void pack(const uint8_t* row, int64_t K, uint8_t* tile, int c) {
    auto* out = reinterpret_cast<TileQ6_K*>(tile);
    for (int64_t s = 0; s < K / kSuperBlock; ++s) {
      const auto block = read_block<BlockQ6_K>(row, s);
      out[s].d[c] = block.d;
      for (int g = 0; g < 8; ++g) {
        const int half = g / 4, t = g % 4;
        uint32_t low[8], high[8];
        std::memcpy(low, block.low + 64 * half + 32 * (t % 2), sizeof low);
        std::memcpy(high, block.high + 32 * half, sizeof high);
        for (int quad = 0; quad < 8; ++quad) {
          low[quad] = (low[quad] >> (4 * (t / 2))) & 0x0f0f0f0fu;
          high[quad] = (high[quad] >> (2 * t)) & 0x03030303u;
        }
        TileQ6_K::Group& group = out[s].groups[g];
        for (int i = 0; i < 4; ++i) {
          const uint32_t codes = low[i] | (low[i + 4] << 4);
          std::memcpy(group.low[i][c], &codes, 4);
        }
        for (int i = 0; i < 2; ++i) {
          const uint32_t codes = high[i] | (high[i + 2] << 2) | (high[i + 4] << 4) | (high[i + 6] << 6);
          std::memcpy(group.high[i][c], &codes, 4);
        }
        group.scale[c][0] = block.scales[2 * g];
        group.scale[c][1] = block.scales[2 * g + 1];
      }
    }
  }
  static void unpack(const uint8_t* tile, int64_t K, int c, float* out) {
    const auto* in = reinterpret_cast<const TileQ6_K*>(tile);
    for (int64_t g = 0; g < K / kGroup; ++g) {
      const TileQ6_K::Group& group = in[g / 8].groups[g % 8];
      const float d = half_to_float(in[g / 8].d[c]);
      for (int i = 0; i < kGroup; ++i) {
        const int quad = i / 4;
        const int high = (group.high[quad % 2][c][i % 4] >> (2 * (quad / 2))) & 3;
        const int q = (nibble(group.low, c, i) | (high << 4)) - 32;
        *out++ = d * static_cast<float>(group.scale[c][i / 16]) * static_cast<float>(q);
      }
    }
  }
};

struct Codec {
  int64_t (*tile_bytes)(int64_t K);
  void (*pack)(const uint8_t* row, int64_t K, uint8_t* tile, int c);
  void (*unpack)(const uint8_t* tile, int64_t K, int c, float* out);
};

template <class C>
constexpr Codec kCodec = {C::tile_bytes, C::pack, C::unpack};

const Codec& codec_of(int32_t format) {
  switch (format) {
    case PF_FMT_F32:
      return kCodec<FloatCodec<float, same>>;
    case PF_FMT_F16:
      return kCodec<FloatCodec<uint16_t, half_to_float>>;
    case PF_FMT_BF16:
      return kCodec<FloatCodec<uint16_t, bfloat_to_float>>;
    case PF_FMT_Q8_0:
      return kCodec<CodecQ8_0>;
    case PF_FMT_Q4_0:
      return kCodec<CodecQ4_0>;
    case PF_FMT_Q4_1:
      return kCodec<CodecQ4_1>;
    case PF_FMT_Q4_K:
      return kCodec<CodecQ4_K>;
    case PF_FMT_Q6_K:
      return kCodec<CodecQ6_K>;
    default:
      refuse("unknown weight format ", format);
  }
}

// --- the whole weight
// ----------------------------------------------------------------------------------------------------

// What is read or written at once: small enough that a checksum of it finds it in the core's own cache.
constexpr size_t kPieceBytes = size_t{256} << 10;

struct OwnedWeight : PackedWeight {
  std::vector<PackedPart> storage;
  std::shared_ptr<uint8_t> memory;
  size_t bytes = 0;
};

void check_parts(const PfWeightPart* parts, int32_t num_parts) {
  if (num_parts < 1) refuse("a weight needs at least one part");
  for (int32_t i = 0; i < num_parts; ++i) {
    const PfWeightPart& part = parts[i];
    if (part.rows < 1 || part.cols < 1) refuse("part ", i, " has shape [", part.rows, ", ", part.cols, "]");
    if (part.cols != parts[0].cols) refuse("part ", i, " has ", part.cols, " columns, part 0 has ", parts[0].cols);
    const size_t wanted = row_bytes(part.format, part.cols) * static_cast<size_t>(part.rows);
    if (part.bytes != wanted) refuse("part ", i, " has ", part.bytes, " bytes, its shape takes ", wanted);
  }
}

void pack_tile(const PfWeightPart& from, const PackedPart& to, int64_t tile) {
  const Codec& codec = codec_of(to.format);
  const size_t stride = row_bytes(from.format, from.cols);
  auto* out = const_cast<uint8_t*>(to.data) + static_cast<size_t>(tile) * to.tile_bytes;
  const int64_t first = tile * kTile;
  for (int c = 0; c < kTile && first + c < from.rows; ++c) {
    const auto* row = static_cast<const uint8_t*>(from.data) + static_cast<size_t>(first + c) * stride;
    codec.pack(row, from.cols, out, c);
  }
}

// The weight of some parts with memory for its tiles, which are still zeros.
std::unique_ptr<OwnedWeight> laid_out(const PfWeightPart* parts, int32_t num_parts) {
  check_parts(parts, num_parts);
  auto weight = std::make_unique<OwnedWeight>();
  weight->cols = parts[0].cols;
  for (int32_t i = 0; i < num_parts; ++i) {
    const PfWeightPart& part = parts[i];
    const int64_t tiles = (part.rows + kTile - 1) / kTile;
    const auto tile_bytes = static_cast<size_t>(codec_of(part.format).tile_bytes(part.cols));
    weight->storage.push_back(
        {part.format, weight->rows, part.rows, weight->tiles, tiles, tile_bytes, /*data, set below*/ nullptr});
    weight->rows += part.rows;
    weight->tiles += tiles;
    weight->bytes += static_cast<size_t>(tiles) * tile_bytes;
  }
  weight->memory = allocate_weight_memory(weight->bytes);
  const uint8_t* data = weight->memory.get();
  for (PackedPart& part : weight->storage) {
    part.data = data;
    data += static_cast<size_t>(part.tiles) * part.tile_bytes;
  }
  weight->parts = weight->storage.data();
  weight->num_parts = num_parts;
  return weight;
}

}  // namespace

PackedWeight* pack_weight(const PfWeightPart* parts, int32_t num_parts, ThreadPool& pool) {
  auto weight = laid_out(parts, num_parts);
  pool.run([&](Worker& worker) {
    worker.for_each(weight->tiles, [&](int64_t tile) {
      const PackedPart& part = part_of_tile(*weight, tile);
      pack_tile(parts[&part - weight->parts], part, tile - part.first_tile);
    });
  });
  return weight.release();
}

void save_weight(const PackedWeight& weight, PfWrite write, void* ctx) {
  const auto& owned = static_cast<const OwnedWeight&>(weight);
  for (size_t at = 0; at < owned.bytes; at += kPieceBytes) {
    if (write(ctx, owned.memory.get() + at, at, std::min(kPieceBytes, owned.bytes - at)) != 0) {
      throw std::runtime_error("the bytes of a weight could not be written");
    }
  }
}

PackedWeight* restore_weight(const PfWeightPart* parts, int32_t num_parts, PfRead read, void* ctx) {
  auto weight = laid_out(parts, num_parts);
  for (size_t at = 0; at < weight->bytes; at += kPieceBytes) {
    if (read(ctx, weight->memory.get() + at, at, std::min(kPieceBytes, weight->bytes - at)) != 0) {
      throw std::runtime_error("the bytes of a weight could not be read");
    }
  }
  return weight.release();
}

void free_weight(PackedWeight* weight) { delete static_cast<OwnedWeight*>(weight); }

size_t packed_bytes(const PackedWeight& weight) { return static_cast<const OwnedWeight&>(weight).bytes; }

void dequantize_rows(const PackedWeight& weight, int64_t row, int64_t rows, float* out) {
  const PackedPart* part = weight.parts;
  for (int64_t r = row; r < row + rows; ++r, out += weight.cols) {
    while (r >= part->first_row + part->rows) ++part;
    const int64_t n = r - part->first_row;
    const uint8_t* tile = part->data + static_cast<size_t>(n / kTile) * part->tile_bytes;
    codec_of(part->format).unpack(tile, weight.cols, static_cast<int>(n % kTile), out);
  }
}

}  // namespace pf
