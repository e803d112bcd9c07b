// GEMM without tensor cores: for float, and for shapes whose rows are no whole vectors. A block takes 64 rows by 64
// columns, a thread 4 by 4 of them, and each output is one chain of fma over ascending k.
//
// Tiles lie in shared memory as [k][row], rows permuted by swizzle(k): threads write along k and read along rows, and
// meet no bank twice either way.
#pragma once
#include "gemm_tile.h"

namespace pf::gpu {

struct FfmaTile {
  static constexpr int kThreads = 256, kRows = 64, kColumns = 64, kK = 32;

  // Four lanes side by side, c = 0 .. 3, write at k = 4 c + i, 8 c + i or, from packed codes, 16 s + 2 c + i.
  static GPU_DEVICE int swizzle(int k) { return ((k / 2 ^ k / 8) & 3) * 8; }
};

// Copies lane `part`'s eight of the 32 elements at row[k0]: one vector, or two that are 16 elements apart, so that four
// lanes read whole sectors. Zeros past `end` and where `row` is null.
template <class T, int kWidth>
GPU_DEVICE void copy_eight(float (&tile)[FfmaTile::kK][kWidth], int column, int part, const T* row, int64_t k0,
                           int64_t end, bool vectors) {
  constexpr int kVec = kPerVec<T>;
  GPU_UNROLL for (int first = part * kVec; first < FfmaTile::kK; first += 4 * kVec) {
    float v[kVec] = {};
    if (row != nullptr && vectors && k0 + first < end) {
      load_values(row + k0 + first, v);
    } else if (row != nullptr) {
      GPU_UNROLL for (int i = 0; i < kVec; ++i) {
        if (k0 + first + i < end || GPU_PLANTED("gemm: past the row")) v[i] = to_float(row[k0 + first + i]);
      }
    }
    GPU_UNROLL for (int i = 0; i < kVec; ++i) tile[first + i][column ^ FfmaTile::swizzle(first + i)] = v[i];
  }
}

template <class T, WeightFormat kFormat>
GPU_KERNEL(FfmaTile::kThreads)
void gemm_ffma_kernel(GemmCall<T> call) {
  using Tile = FfmaTile;
  GPU_SHARED(float, xs, [Tile::kK][Tile::kRows]);
  GPU_SHARED(float, ws, [Tile::kK][Tile::kColumns]);
  const LinearArgs<T>& args = call.args;
  const int t = static_cast<int>(thread_x());
  const BlockRows<T> rows(args, block_x(), Tile::kRows);
  if (rows.expert < 0) return;
  const int64_t n0 = int64_t{block_y()} * Tile::kColumns;
  const char* weight = static_cast<const char*>(args.weight.data) + rows.expert * call.expert_bytes;

  // The row of x and the row of W that this thread copies, and where in a tile's 32 k.
  const int row = t / 4, part = t % 4;
  const int64_t copied_slot = rows.slot(args, row);
  const T* x = copied_slot < 0 ? nullptr : args.x + BlockRows<T>::x_row(args, copied_slot) * args.x_stride;
  const bool w_exists = n0 + row < args.weight.n;

  float acc[4][4] = {};
  for (int64_t k0 = 0; k0 < args.weight.k; k0 += Tile::kK) {
    copy_eight(xs, row, part, x, k0, args.weight.k, call.x_vectors);
    if constexpr (kFormat == WeightFormat::kPlain) {
      const T* w = reinterpret_cast<const T*>(weight) + (w_exists ? (n0 + row) * args.weight.stride : 0);
      copy_eight(ws, row, part, w_exists ? w : nullptr, k0, args.weight.k, call.w_vectors);
    } else {
      const int64_t panel = (n0 + row) / kPanelRows;
      const char* record = weight + (k0 / kTileK * call.tile_panels + panel) * call.record_bytes;
      const bool second_half = k0 % kTileK != 0;
      Codes<kFormat> codes = {};
      GroupScale scale = {0.0f, 0.0f};
      if (panel < call.panels) {
        codes.load(record, row % kPanelRows * 4 + part);
        if (second_half) codes.drop_first_half();
        const int group = second_half && call.groups == 2 && !GPU_PLANTED("gemm: scale of another group") ? 1 : 0;
        scale = load_scale<kFormat>(record, group, row % kPanelRows, args.weight.layout);
      }
      GPU_UNROLL for (int s = 0; s < 2; ++s) {
        GPU_UNROLL for (int j = 0; j < 4; ++j) {
          const int k = 16 * s + 2 * part + 8 * (j / 2) + j % 2;
          ws[k][row ^ Tile::swizzle(k)] = fmaf(codes.value(s, j), scale.d, scale.c);
        }
      }
    }
    block_sync();
    const int my_row = t / 16 * 4, my_column = t % 16 * 4;
    GPU_UNROLL for (int k = 0; k < Tile::kK; ++k) {
      float a[4], b[4];
      load_few(&xs[k][my_row ^ Tile::swizzle(k)], a);
      load_few(&ws[k][my_column ^ Tile::swizzle(k)], b);
      GPU_UNROLL for (int i = 0; i < 4; ++i) {
        GPU_UNROLL for (int j = 0; j < 4; ++j) acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
      }
    }
    block_sync();
  }
  GPU_UNROLL for (int i = 0; i < 4; ++i) {
    finish(call, rows.expert, rows.slot(args, t / 16 * 4 + i), n0 + t % 16 * 4, acc[i]);
  }
}

}  // namespace pf::gpu
