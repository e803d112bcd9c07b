// Quantized weights as the GPU's GEMM reads them, and how the host packs them. Lossless for Q4_0, Q4_1, Q8_0, GPTQ and
// AWQ.
//
// A weight is cut into panels of 8 rows and tiles of 64 k. One panel of one tile is a record; the records of a tile lie
// side by side, so that a block of the kernel copies one run of bytes for each tile, and the runs follow each other:
//
//   [ceil(K / 64)][ceil(N / 8)][ codes | scales ]
//
// Codes are in the order of mma.sync's B fragments: lane 4 g + q of a warp finds in its own 16 bytes (8 for int4) row g
// and, for each step s of 16 k, the columns k = 16 s + 2 q + {0, 1, 8, 9}, numbered j = 0 .. 3 below:
//
//   int8, e4m3   byte 4 s + j; int8 is stored as q + 128
//   int4         the four bits at 4 (2 (s % 2) + j / 2) + 16 (j % 2) of word s / 2
//
// Scales are f16, for each group of the tile (two if groups are of 32, else one, none if there are no groups) and row:
// d, or d and its offset. Padding is zeros.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../../gpu/numbers.h"

namespace pf::gpu {

enum class WeightFormat { kPlain, kInt8, kInt4, kE4m3 };

enum class Offset {
  kNone,     // w = d q for int8 and e4m3, d (q - 8) for int4
  kMinimum,  // w = d q + m                 int4 only, as the next
  kZero,     // w = d (q - z)
};

constexpr int kPanelRows = 8, kTileK = 64;

struct WeightLayout {
  WeightFormat format = WeightFormat::kPlain;
  int group = 0;  // consecutive k that share a scale: 32, 64 or 128; 0 = there is only the column's
  Offset offset = Offset::kNone;

  GPU_HOST_DEVICE int groups() const { return group == 0 ? 0 : group == 32 ? 2 : 1; }  // of a tile
  GPU_HOST_DEVICE int scale_width() const { return offset == Offset::kNone ? 1 : 2; }
  GPU_HOST_DEVICE static constexpr int code_bytes(WeightFormat format) {
    return format == WeightFormat::kInt4 ? 256 : 512;
  }
  GPU_HOST_DEVICE int record_bytes() const { return code_bytes(format) + 16 * groups() * scale_width(); }
};

constexpr int kMaxRecordBytes = 512 + 32;  // int8 with groups of 32; int4 with two offsets is smaller

inline int64_t packed_panels(int64_t n) { return (n + kPanelRows - 1) / kPanelRows; }
inline size_t packed_bytes(const WeightLayout& layout, int64_t n, int64_t k) {
  return static_cast<size_t>((k + kTileK - 1) / kTileK * packed_panels(n) * layout.record_bytes());
}

// One matrix in the plainest form that keeps what its file says.
struct QuantizedMatrix {
  int64_t n = 0, k = 0;
  std::vector<uint8_t> codes;        // [n][k]: int8 as two's complement, int4 as 0 .. 15, e4m3 as its bits
  std::vector<f16> scales, offsets;  // [n][k / group]; empty without groups, and without offsets
};

// std::invalid_argument when sizes do not fit each other, or the layout is none that kernels know.
std::vector<uint8_t> pack_weight(const QuantizedMatrix& matrix, const WeightLayout& layout);

// Whole rows of blocks as GGUF files store them. std::invalid_argument unless k is a multiple of 32.
QuantizedMatrix from_q8_0(const uint8_t* blocks, int64_t n, int64_t k);
QuantizedMatrix from_q4_0(const uint8_t* blocks, int64_t n, int64_t k);
QuantizedMatrix from_q4_1(const uint8_t* blocks, int64_t n, int64_t k);

// The int32 tensors of 4-bit checkpoints; offsets are zero points. GPTQ: qweight[k / 8][n], qzeros[groups][n / 8],
// scales[groups][n], where a file of version 1 stores z - 1; its rows are not reordered (no act-order). AWQ:
// qweight[k][n / 8] and qzeros with columns in the order 0 2 4 6 1 3 5 7.
QuantizedMatrix from_gptq(const uint32_t* qweight, const uint32_t* qzeros, const f16* scales, int64_t n, int64_t k,
                          int group, bool version_1);
QuantizedMatrix from_awq(const uint32_t* qweight, const uint32_t* qzeros, const f16* scales, int64_t n, int64_t k,
                         int group);

// ---------------------------------------------------------------------------------------------------------------------

inline std::vector<uint8_t> pack_weight(const QuantizedMatrix& m, const WeightLayout& layout) {
  const auto refuse = [](const std::string& what) { throw std::invalid_argument("packing a weight: " + what); };
  const int64_t groups = layout.group == 0 ? 0 : m.k / layout.group;
  if (layout.format == WeightFormat::kPlain) refuse("a plain weight is not packed");
  if (layout.group != 0 && layout.group != 32 && layout.group != 64 && layout.group != 128) {
    refuse("a group is " + std::to_string(layout.group) + ", it can be 0, 32, 64 or 128");
  }
  if (layout.offset != Offset::kNone && (layout.format != WeightFormat::kInt4 || layout.group == 0)) {
    refuse("only groups of int4 have offsets");
  }
  if (layout.group != 0 && m.k % layout.group != 0) {
    refuse("k is " + std::to_string(m.k) + ", no multiple of the group of " + std::to_string(layout.group));
  }
  const auto scales = static_cast<size_t>(m.n * groups);
  if (m.codes.size() != static_cast<size_t>(m.n * m.k) || m.scales.size() != scales ||
      m.offsets.size() != (layout.offset == Offset::kNone ? 0 : scales)) {
    refuse("codes, scales or offsets do not fit the shape " + std::to_string(m.n) + " x " + std::to_string(m.k));
  }
  std::vector<uint8_t> packed(packed_bytes(layout, m.n, m.k));
  const auto record_of = [&](int64_t row, int64_t k) {
    return packed.data() + (k / kTileK * packed_panels(m.n) + row / kPanelRows) * layout.record_bytes();
  };
  uint8_t* record = nullptr;
  for (int64_t row = 0; row < m.n; ++row) {
    for (int64_t k = 0; k < m.k; ++k) {
      if (k % kTileK == 0) record = record_of(row, k);
      const int64_t s = k % kTileK / 16, j = k % 16 / 8 * 2 + k % 2, lane = row % kPanelRows * 4 + k % 8 / 2;
      const uint8_t code = m.codes[static_cast<size_t>(row * m.k + k)];
      if (layout.format == WeightFormat::kInt4) {
        if (code > 15) refuse("a code of int4 is " + std::to_string(code));
        const int64_t bit = 4 * (2 * (s % 2) + j / 2) + 16 * (j % 2);
        record[lane * 8 + s / 2 * 4 + bit / 8] |= static_cast<uint8_t>(code << (bit % 8));
      } else {
        record[lane * 16 + 4 * s + j] =
            layout.format == WeightFormat::kInt8 ? static_cast<uint8_t>(code ^ 0x80u) : code;
      }
    }
    // A tile holds the scales of its groups, or the one of the group that it lies in.
    for (int64_t k = 0; layout.group != 0 && k < m.k; k += layout.group < kTileK ? layout.group : kTileK) {
      record = record_of(row, k) + WeightLayout::code_bytes(layout.format);
      const int64_t inside = k % kTileK / layout.group, width = layout.scale_width();
      const auto from = static_cast<size_t>(row * groups + k / layout.group);
      memcpy(record + ((inside * kPanelRows + row % kPanelRows) * width) * 2, &m.scales[from], 2);
      if (width == 2) {
        memcpy(record + ((inside * kPanelRows + row % kPanelRows) * width + 1) * 2, &m.offsets[from], 2);
      }
    }
  }
  return packed;
}

namespace detail {

// Blocks of `bytes` bytes: d, an offset if there is one, and 32 codes.
inline QuantizedMatrix from_blocks(const uint8_t* blocks, int64_t n, int64_t k, bool nibbles, bool offsets) {
  if (k % 32 != 0) throw std::invalid_argument("a row of blocks of 32 cannot hold " + std::to_string(k) + " values");
  QuantizedMatrix m;
  m.n = n;
  m.k = k;
  m.codes.reserve(static_cast<size_t>(n * k));
  const int head = offsets ? 4 : 2, bytes = head + (nibbles ? 16 : 32);
  for (int64_t b = 0; b < n * k / 32; ++b, blocks += bytes) {
    f16 numbers[2];
    memcpy(numbers, blocks, static_cast<size_t>(head));
    m.scales.push_back(numbers[0]);
    if (offsets) m.offsets.push_back(numbers[1]);
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = blocks[head + (nibbles ? i % 16 : i)];
      m.codes.push_back(!nibbles ? byte : i < 16 ? byte & 15 : byte >> 4);
    }
  }
  return m;
}

// An int4 matrix out of three functions of (row, k) and (row, group).
template <class Code, class Scale, class Zero>
QuantizedMatrix from_parts(int64_t n, int64_t k, int group, Code code, Scale scale, Zero zero) {
  if (group <= 0 || k % group != 0 || n % 8 != 0 || k % 8 != 0) {
    throw std::invalid_argument("a 4-bit checkpoint of " + std::to_string(n) + " x " + std::to_string(k) +
                                " cannot have groups of " + std::to_string(group));
  }
  QuantizedMatrix m;
  m.n = n;
  m.k = k;
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t i = 0; i < k; ++i) m.codes.push_back(static_cast<uint8_t>(code(row, i)));
    for (int64_t g = 0; g < k / group; ++g) {
      m.scales.push_back(scale(row, g));
      m.offsets.push_back(from_float<f16>(static_cast<float>(zero(row, g))));
    }
  }
  return m;
}

}  // namespace detail

inline QuantizedMatrix from_q8_0(const uint8_t* blocks, int64_t n, int64_t k) {
  return detail::from_blocks(blocks, n, k, false, false);
}
inline QuantizedMatrix from_q4_0(const uint8_t* blocks, int64_t n, int64_t k) {
  return detail::from_blocks(blocks, n, k, true, false);
}
inline QuantizedMatrix from_q4_1(const uint8_t* blocks, int64_t n, int64_t k) {
  return detail::from_blocks(blocks, n, k, true, true);
}

inline QuantizedMatrix from_gptq(const uint32_t* qweight, const uint32_t* qzeros, const f16* scales, int64_t n,
                                 int64_t k, int group, bool version_1) {
  return detail::from_parts(
      n, k, group, [&](int64_t row, int64_t i) { return qweight[i / 8 * n + row] >> (4 * (i % 8)) & 15u; },
      [&](int64_t row, int64_t g) { return scales[g * n + row]; },
      [&](int64_t row, int64_t g) {
        return (qzeros[(g * n + row) / 8] >> (4 * (row % 8)) & 15u) + (version_1 ? 1u : 0u);
      });
}

inline QuantizedMatrix from_awq(const uint32_t* qweight, const uint32_t* qzeros, const f16* scales, int64_t n,
                                int64_t k, int group) {
  // Column c of eight lies at nibble c / 2 if it is even, and 4 + c / 2 if it is odd.
  const auto nibble = [](int64_t c) { return 4 * (c % 8 / 2 + c % 2 * 4); };
  return detail::from_parts(
      n, k, group, [&](int64_t row, int64_t i) { return qweight[(i * n + row) / 8] >> nibble(row) & 15u; },
      [&](int64_t row, int64_t g) { return scales[g * n + row]; },
      [&](int64_t row, int64_t g) { return qzeros[(g * n + row) / 8] >> nibble(row) & 15u; });
}

}  // namespace pf::gpu
