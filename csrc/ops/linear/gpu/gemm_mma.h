// GEMM on tensor cores. A block takes a tile of y and goes through k in tiles of 128 bytes of x (64 k of 16-bit types),
// kStages of them in flight as asynchronous copies:
//
//   stage   | x: kM rows of 128 bytes, in chunks of 16 | W: plain kN such rows, or the records of kN / 8 panels |
//
// Chunk c of row r lies at place c ^ (r % 8) of its row, so that eight rows of a chunk (ldmatrix) and eight chunks of a
// row (a copy) are on different banks. Packed codes lie as mma.sync's operands want them and need neither.
//
// When all of k is summed the block writes its sums to the same shared memory and reads them back by rows, so that
// stores, bias and residual are whole sectors.
//
// Each output is one chain of mma() over ascending k, in every tile shape: rows of a batch get the same bits in a
// small one and in a large one. Therefore k is never split between warps or blocks; where rows are few, tiles are
// narrow instead, to fill the GPU.
#pragma once
#include "../../../gpu/tiles.h"
#include "gemm_tile.h"

namespace pf::gpu {

template <int kRows, int kColumns, int kWarpsDown, int kWarpsAcross, int kDepth>
struct MmaTile {
  static constexpr int kM = kRows, kN = kColumns, kStages = kDepth;
  static constexpr int kWarpsM = kWarpsDown, kWarpsN = kWarpsAcross, kWarps = kWarpsM * kWarpsN;
  static constexpr int kThreads = kWarp * kWarps;  // for the device; the host asks for kWarps * warp_lanes()
  static constexpr int kMTiles = kM / kWarpsM / 16, kNTiles = kN / kWarpsN / kTileColumns;  // of a warp
};
// Decoding: 4 warps side by side, 32 columns: 128 blocks for N = 4096. Prefill: warps of 64 x 32, the most whose sums
// and fragments leave registers for two blocks on an SM. For 8-bit types less: sm_90 has e4m3's mma.sync only as
// conversions to f16, which need registers that such warps lack.
//
// AMD's tiles are 16 columns, a block has 64 KiB of shared memory, and copies are not asynchronous there, so that more
// than two stages would gain nothing: what hides latency is more blocks on a compute unit.
struct NarrowTiles {  // kTileColumns = 8
  using Small = MmaTile<16, 32, 1, 4, 6>;
  using Medium = MmaTile<64, 128, 1, 4, 3>;
  using Large = MmaTile<128, 128, 2, 4, 3>;
  using EightBit = MmaTile<128, 64, 4, 2, 4>;
};
struct WideTiles {
  using Small = MmaTile<16, 64, 1, 4, 2>;
  using Medium = MmaTile<64, 128, 1, 4, 2>;
  using Large = MmaTile<128, 64, 2, 2, 2>;
  using EightBit = Large;
};
using Tiles = std::conditional_t<kTileColumns == 8, NarrowTiles, WideTiles>;
using SmallTile = Tiles::Small;
using MediumTile = Tiles::Medium;
using LargeTile = Tiles::Large;
using EightBitTile = Tiles::EightBit;

constexpr int kRowBytes = 128, kChunks = kRowBytes / 16;

// Whether the device that this is compiled for has the instruction: a kernel without it is never launched.
template <class T>
constexpr bool kMmaExists = !std::is_same_v<T, e4m3> || GPU_HAS_FP8_MMA;

template <WeightFormat kFormat, class Tile>
struct Stage {
  static constexpr int kX = Tile::kM * kRowBytes;
  // Records of int4 are at most 256 + 64 bytes, those of 8-bit codes at most 512 + 32.
  static constexpr int kRecord = kFormat == WeightFormat::kInt4 ? 320 : kMaxRecordBytes;
  static constexpr int kW = kFormat == WeightFormat::kPlain ? Tile::kN * kRowBytes : Tile::kN / kPanelRows * kRecord;
  static constexpr int kBytes = kX + kW;
  // Floats between rows of sums. Where a lane has two rows, two rows apart is eight banks apart, else four.
  static constexpr int kPitch = Tile::kN + 4 * kLaneRows;
  static constexpr int kSums = Tile::kM * kPitch * 4;
  static constexpr int kShared = Tile::kStages * kBytes > kSums ? Tile::kStages * kBytes : kSums;
  static_assert(kShared <= kMaxShared);
};

GPU_DEVICE int place_of(int row, int chunk) { return row * kRowBytes + ((chunk ^ (row % 8)) * 16); }

// What a warp holds of W for one tile of k, and its fragments step by step.
template <class T, WeightFormat kFormat, class Tile>
struct WarpWeights;

template <class T, class Tile>
struct WarpWeights<T, WeightFormat::kPlain, Tile> {
  static constexpr int kN = Tile::kNTiles, kTilesOf16 = 16 / kTileColumns;
  static constexpr bool kTwoSteps = kN < kTilesOf16;
  const char* ws;
  int first;  // the warp's first row of W in the tile
  uint32_t of16[kTwoSteps ? 1 : kN / kTilesOf16][kRegistersOf16];

  GPU_DEVICE void start(const GemmCall<T>&, const char* tile, int warp_column) {
    ws = tile;
    first = warp_column * kN * kTileColumns;
  }
  // One load brings sixteen columns of a step or, where a warp has only eight, two steps of them.
  GPU_DEVICE void step(int s) {
    if constexpr (kTwoSteps) {
      if (s % 2 != 0) return;
      load_b_two_steps(of16[0], [&](int row, int chunk) { return ws + place_of(first + row, 2 * s + chunk); });
    } else {
      GPU_UNROLL for (int p = 0; p < kN / kTilesOf16; ++p) {
        load_b(of16[p], [&](int row, int chunk) { return ws + place_of(first + 16 * p + row, 2 * s + chunk); });
      }
    }
  }
  GPU_DEVICE void fragment(int s, int n, uint32_t (&b)[kRegistersB]) const {
    pick_b(of16[n / kTilesOf16], kTwoSteps ? s % 2 : n % kTilesOf16, b);
  }
};

// w = d q + c of an unsigned code, in one fma on a float that is made of the code's bits without a conversion.
template <WeightFormat kFormat>
struct FusedScale {
  float a, b;

  GPU_DEVICE void set(const GroupScale& scale) {
    if constexpr (kFormat == WeightFormat::kInt4) {  // the float is 1 + q / 16
      a = 16.0f * scale.d;
      b = scale.c - a;
    } else if constexpr (kFormat == WeightFormat::kInt8) {  // 1 + (q + 128) / 2^15
      a = 0x1p15f * scale.d;
      b = -(0x1p15f + 128.0f) * scale.d;
    } else {
      a = scale.d;
      b = 0.0f;
    }
  }
  GPU_DEVICE float apply(const Codes<kFormat>& codes, int s, int j) const {
    if constexpr (kFormat == WeightFormat::kInt4) {
      return fmaf(detail::as_float(0x3f800000u | codes.code(s, j) << 19), a, b);
    } else if constexpr (kFormat == WeightFormat::kInt8) {
      return fmaf(detail::as_float(0x3f800000u | codes.code(s, j) << 8), a, b);
    } else {
      return codes.value(s, j) * a;
    }
  }
};

// The codes that an operand B of a lane is made of: of one column, kRegistersB * 2 of each step of 16 k. Records are
// in the order of mma.sync, whose lane q has k = 2 q + {0, 1, 8, 9}. MFMA's quarter q of a warp has k = 4 q + {0 ...
// 3}, one half of the codes of two such lanes; WMMA's lanes have all sixteen k, the codes of four.
template <WeightFormat kFormat>
struct OperandCodes {
  static constexpr int kValues = 2 * kRegistersB, kParts = kValues / 4;
  Codes<kFormat> parts[kParts];

  GPU_DEVICE void load(const char* record, int lane) {
    if constexpr (kTileColumns == kPanelRows) {
      parts[0].load(record, lane);
    } else if constexpr (kParts == 1) {
      const int quarter = lane / 16, first = lane % 8 * 4 + quarter % 2 * 2;
      Codes<kFormat> low, high;
      low.load(record, first);
      high.load(record, first + 1);
      const bool second = GPU_PLANTED("gemm: other half of the codes") ? quarter / 2 == 0 : quarter / 2 != 0;
      parts[0].join(low, high, second);
    } else {
      GPU_UNROLL for (int p = 0; p < kParts; ++p) parts[p].load(record, lane % 8 * 4 + p);
    }
  }
  // Of number i of the operand: the part, and the number in it.
  GPU_HOST_DEVICE static constexpr int part(int i) { return kParts == 1 ? 0 : i % 8 / 2; }
  GPU_HOST_DEVICE static constexpr int number(int i) { return kParts == 1 ? i : i / 8 * 2 + i % 2; }
};

template <class T, WeightFormat kFormat, class Tile>
struct WarpWeights {
  static constexpr int kN = Tile::kNTiles, kPanels = kTileColumns / kPanelRows;
  // Four parts of all steps would take too many registers: those of two steps are loaded at a time.
  static constexpr bool kLoadsTwice = OperandCodes<kFormat>::kParts > 1;
  const char* records;
  int record_bytes, groups;
  WeightLayout layout;
  OperandCodes<kFormat> codes[kN];
  FusedScale<kFormat> scales[kN];

  GPU_DEVICE const char* record(int n) const {
    if constexpr (kPanels == 1) return records + n * record_bytes;
    return records + (n * kPanels + operand_column() / kPanelRows) * record_bytes;
  }
  GPU_DEVICE void start(const GemmCall<T>& call, const char* tile, int warp_column) {
    record_bytes = call.record_bytes;
    groups = call.groups;
    layout = call.args.weight.layout;
    records = tile + warp_column * kN * kPanels * record_bytes;
    if constexpr (!kLoadsTwice) load_codes(lane_id());
  }
  GPU_DEVICE void load_codes(int lane) { GPU_UNROLL for (int n = 0; n < kN; ++n) codes[n].load(record(n), lane); }
  GPU_DEVICE void step(int s) {
    if constexpr (kLoadsTwice) {
      if (s % 2 == 0) load_codes(opaque(lane_id()));
    }
    if (s != 0 && !(s == 2 && groups == 2)) return;
    const int group = GPU_PLANTED("gemm: scale of another group") ? 0 : s / 2;
    GPU_UNROLL for (int n = 0; n < kN; ++n) {
      const int row = kPanels == 1 ? operand_column() : operand_column() % kPanelRows;
      scales[n].set(load_scale<kFormat>(record(n), group, row, layout));
    }
  }
  GPU_DEVICE void fragment(int s, int n, uint32_t (&b)[kRegistersB]) const {
    using Of = OperandCodes<kFormat>;
    const auto value = [&](int i) { return scales[n].apply(codes[n].parts[Of::part(i)], s, Of::number(i)); };
    GPU_UNROLL for (int r = 0; r < kRegistersB; ++r) b[r] = pack_pair<T>(value(2 * r), value(2 * r + 1));
  }
};

template <class T, WeightFormat kFormat, class Tile>
GPU_KERNEL(Tile::kThreads)
void gemm_mma_kernel(GemmCall<T> call) {
  if constexpr (kMmaExists<T>) {
    using S = Stage<kFormat, Tile>;
    constexpr int kThreads = Tile::kThreads, kK = kRowBytes / static_cast<int>(sizeof(T));
    constexpr int kRowsATurn = kThreads / kChunks;  // of one copy by every thread
    constexpr int kXTurns = (Tile::kM + kRowsATurn - 1) / kRowsATurn, kWTurns = Tile::kN / kRowsATurn;
    static_assert(Tile::kN % kRowsATurn == 0);
    GPU_DYNAMIC_SHARED(char, shared);
    const LinearArgs<T>& args = call.args;
    const int t = static_cast<int>(thread_x());
    const BlockRows<T> rows(args, block_x(), Tile::kM);
    if (rows.expert < 0) return;
    const int64_t n0 = int64_t{block_y()} * Tile::kN, k_end = args.weight.k;
    const char* weight = static_cast<const char*>(args.weight.data) + rows.expert * call.expert_bytes;

    // This thread copies chunk t % 8 of rows t / 8, t / 8 + kRowsATurn, ...
    const int chunk = t % kChunks, first_row = t / kChunks;
    const T* x[kXTurns];
    GPU_UNROLL for (int i = 0; i < kXTurns; ++i) {
      const int64_t slot = rows.slot(args, first_row + i * kRowsATurn);
      x[i] = slot < 0 ? nullptr : args.x + BlockRows<T>::x_row(args, slot) * args.x_stride;
    }
    const auto copy_tile = [&](int tile) {
      char* xs = shared + tile % Tile::kStages * S::kBytes;
      char* ws = xs + S::kX;
      const int64_t k = int64_t{tile} * kK + chunk * kPerVec<T>;
      const bool inside = k < k_end || GPU_PLANTED("gemm: past the row");
      GPU_UNROLL for (int i = 0; i < kXTurns; ++i) {
        // The smallest tile has fewer rows than a large warp's block copies at once.
        if (Tile::kM % kRowsATurn != 0 && first_row + i * kRowsATurn >= Tile::kM) continue;
        const bool valid = inside && x[i] != nullptr;
        copy_async<16>(xs + place_of(first_row + i * kRowsATurn, chunk), valid ? x[i] + k : args.x, valid);
      }
      if constexpr (kFormat == WeightFormat::kPlain) {
        GPU_UNROLL for (int i = 0; i < kWTurns; ++i) {
          const int row = first_row + i * kRowsATurn;
          const bool valid = inside && n0 + row < args.weight.n;
          const T* w = reinterpret_cast<const T*>(weight) + (valid ? (n0 + row) * args.weight.stride + k : 0);
          copy_async<16>(ws + place_of(row, chunk), w, valid);
        }
      } else {
        const int64_t first = n0 / kPanelRows, panels = call.panels - first;
        const int here = static_cast<int>(panels < Tile::kN / kPanelRows ? panels : Tile::kN / kPanelRows);
        const char* from = weight + (int64_t{tile} * call.tile_panels + first) * call.record_bytes;
        for (int i = t * 16; i < Tile::kN / kPanelRows * call.record_bytes; i += kThreads * 16) {
          const bool valid = i < here * call.record_bytes || GPU_PLANTED("gemm: past the panels");
          copy_async<16>(ws + i, valid ? from + i : weight, valid);
        }
      }
    };

    const int warp_row = warp_id() / Tile::kWarpsN, warp_column = warp_id() % Tile::kWarpsN;
    const int tiles = static_cast<int>((k_end + kK - 1) / kK);
    using Sum = std::conditional_t<std::is_same_v<T, int8_t>, int32_t, float>;
    Sum acc[Tile::kMTiles][Tile::kNTiles][kTileValues] = {};
    GPU_UNROLL for (int i = 0; i < Tile::kStages - 1; ++i) {
      if (i < tiles) copy_tile(i);
      copy_async_commit();
    }
    for (int tile = 0; tile < tiles; ++tile) {
      copy_async_wait<Tile::kStages - 2>();
      block_sync();  // everyone's copies of this tile are there, and nobody reads the stage that is filled next
      if (tile + Tile::kStages - 1 < tiles) copy_tile(tile + Tile::kStages - 1);
      copy_async_commit();
      const char* xs = shared + tile % Tile::kStages * S::kBytes;
      WarpWeights<T, kFormat, Tile> w;
      w.start(call, xs + S::kX, warp_column);
      GPU_UNROLL for (int s = 0; s < 4; ++s) {
        w.step(s);
        uint32_t b[Tile::kNTiles][kRegistersB];
        GPU_UNROLL for (int n = 0; n < Tile::kNTiles; ++n) w.fragment(s, n, b[n]);
        GPU_UNROLL for (int m = 0; m < Tile::kMTiles; ++m) {
          const int first = (warp_row * Tile::kMTiles + m) * 16;
          uint32_t a[kRegistersA];
          load_a(a, [&](int r, int half) {
            return xs + place_of(first + r, 2 * s + (GPU_PLANTED("gemm: fragment") ? 1 - half : half));
          });
          GPU_UNROLL for (int n = 0; n < Tile::kNTiles; ++n) mma<T>(acc[m][n], a, b[n]);
        }
      }
    }

    copy_async_wait<0>();  // of the last groups, which are empty
    block_sync();          // the stages become sums
    float* sums = reinterpret_cast<float*>(shared);
    GPU_UNROLL for (int m = 0; m < Tile::kMTiles; ++m) {
      GPU_UNROLL for (int n = 0; n < Tile::kNTiles; ++n) {
        GPU_UNROLL for (int h = 0; h < kLaneRows; ++h) {
          const int row = (warp_row * Tile::kMTiles + m) * 16 + tile_row(h);
          GPU_UNROLL for (int j = 0; j < kLaneColumns; j += kColumnRun) {
            const int column = (warp_column * Tile::kNTiles + n) * kTileColumns + tile_column(j);
            float run[kColumnRun];
            GPU_UNROLL for (int i = 0; i < kColumnRun; ++i) {
              run[i] = static_cast<float>(acc[m][n][kLaneColumns * h + j + i]);
              if constexpr (kSumFactor<T> != 1.0f) run[i] *= kSumFactor<T>;
            }
            store_run(sums + row * S::kPitch + column, run);
          }
        }
      }
    }
    block_sync();
    for (int i = t; i < Tile::kM * Tile::kN / 4; i += kThreads) {
      const int row = i / (Tile::kN / 4), column = i % (Tile::kN / 4) * 4;
      float v[4];
      load_few(sums + row * S::kPitch + column, v);
      finish(call, rows.expert, rows.slot(args, row), n0 + column, v);
    }
  }
}

namespace detail {

template <class T, WeightFormat kFormat, class Tile>
void launch_tile(const GemmCall<T>& call, Stream stream) {
  GPU_LAUNCH((gemm_mma_kernel<T, kFormat, Tile>), (gemm_grid(call.args, Tile::kM, Tile::kN)),
             Tile::kWarps * warp_lanes(), (Stage<kFormat, Tile>::kShared), stream, call);
}

// Where rows are few the small tile reads W from L2 once for each 16 of them, which costs less than SMs without a
// block. Any choice gives the same bits.
constexpr int64_t kBlocksThatFill = 64;

template <class T, WeightFormat kFormat>
void launch_format(const GemmCall<T>& call, Stream stream) {
  constexpr bool kPlain = kFormat == WeightFormat::kPlain;
  const LinearArgs<T>& args = call.args;
  if constexpr (sizeof(T) == 1) {
    const int64_t rows = args.experts.expert == nullptr ? args.rows : args.experts.rows;
    if (rows <= SmallTile::kM) return launch_tile<T, kFormat, SmallTile>(call, stream);
    if (args.experts.rows > EightBitTile::kM) refuse_gemm("a block of an expert has more than 128 rows");
    return launch_tile<T, kFormat, EightBitTile>(call, stream);
  } else {
    const bool fixed = args.experts.expert != nullptr;
    const int64_t rows = fixed ? args.experts.rows : args.rows;
    const int64_t wide_blocks = (args.weight.n + MediumTile::kN - 1) / MediumTile::kN;
    const bool fills = fixed || rows > MediumTile::kM || wide_blocks >= kBlocksThatFill;
    if (rows <= SmallTile::kM || !fills) return launch_tile<T, kFormat, SmallTile>(call, stream);
    if constexpr (kPlain) {
      const int64_t large_from = fixed ? MediumTile::kM + 1 : 2 * MediumTile::kM + 1;
      if (rows >= large_from && (!fixed || rows <= LargeTile::kM)) {
        return launch_tile<T, kFormat, LargeTile>(call, stream);
      }
    }
    if (fixed && rows > MediumTile::kM) {
      refuse_gemm("a block of an expert has " + std::to_string(rows) +
                  " rows; it can have 64, or 128 of plain weights");
    }
    launch_tile<T, kFormat, MediumTile>(call, stream);
  }
}

// False if the call is none for tensor cores.
template <class T>
bool launch_mma(const GemmCall<T>& call, Stream stream) {
  const WeightFormat format = call.args.weight.layout.format;
  if (!call.x_vectors || (format == WeightFormat::kPlain && !call.w_vectors)) return false;
  if constexpr (sizeof(T) == 1) {
    if (format != WeightFormat::kPlain || (std::is_same_v<T, e4m3> && !has_fp8_mma())) return false;
    launch_format<T, WeightFormat::kPlain>(call, stream);
  } else {
    switch (format) {
      case WeightFormat::kPlain:
        launch_format<T, WeightFormat::kPlain>(call, stream);
        break;
      case WeightFormat::kInt8:
        launch_format<T, WeightFormat::kInt8>(call, stream);
        break;
      case WeightFormat::kInt4:
        launch_format<T, WeightFormat::kInt4>(call, stream);
        break;
      case WeightFormat::kE4m3:
        launch_format<T, WeightFormat::kE4m3>(call, stream);
        break;
    }
  }
  return true;
}

}  // namespace detail

}  // namespace pf::gpu
