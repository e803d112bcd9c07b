// Two kernels, shrink: h = x A^T, a warp an output column for kRows rows of one segment, and expand: y += h B, a thread
// sixteen bytes of columns for the same rows. What A and B cost to read is shared by those rows alone, which is right
// for decoding and few adapters; a long prompt would want tensor cores.
#include <stdexcept>
#include <string>

#include "../../../gpu/segments.h"
#include "../../../gpu/values.h"
#include "lora.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128, kRows = 8, kMaxRank = 128;
constexpr int kWarps = kThreads / kWarp;

// The rows of a block. Segment s owns blocks from seg_start[s] / kRows + s on, which is at least as many as it needs.
struct Rows {
  int slot, first, count;
  template <class T>
  GPU_DEVICE explicit Rows(const LoraArgs<T>& args) {
    const auto first_block = [&](int s) { return args.seg_start[s] / kRows + s; };
    const int block = static_cast<int>(block_x()), segment = piece_of(args.segments, block, first_block);
    slot = args.seg_slots[segment];
    first = args.seg_start[segment] + (block - first_block(segment)) * kRows;
    const int end = args.seg_start[segment + (GPU_PLANTED("lora: the neighbour's rows") ? args.segments - segment : 1)];
    count = end - first < kRows ? end - first : kRows;
    if (slot < 0) count = 0;
  }
};

// Left alone, nvcc spills on sm_86 and sm_89 to make room for more blocks.
template <class T>
GPU_KERNEL(kThreads, 2)
void shrink_kernel(LoraArgs<T> args) {
  constexpr int kVec = kPerVec<T>;
  const Rows rows(args);
  const int r = static_cast<int>(block_y()) * kWarps + warp_id();
  if (rows.count <= 0 || r >= args.ranks[rows.slot]) return;
  const T* a = args.a + (int64_t{rows.slot} * args.max_rank + r) * args.k;
  const T* x = args.x + rows.first * args.x_stride;
  float sums[kRows] = {};
  for (int64_t i = lane_id() * kVec; i < args.k; i += kWarp * kVec) {
    float w[kVec];
    load_values(a + i, w);
    GPU_UNROLL for (int t = 0; t < kRows; ++t) {
      if (t >= rows.count) break;
      float v[kVec];
      load_values(x + t * args.x_stride + i, v);
      GPU_UNROLL for (int j = 0; j < kVec; ++j) sums[t] = fmaf(v[j], w[j], sums[t]);
    }
  }
  GPU_UNROLL for (int t = 0; t < kRows; ++t) {
    const float sum = warp_sum(sums[t]);
    if (t < rows.count && lane_id() == 0) args.h[int64_t{rows.first + t} * args.max_rank + r] = sum;
  }
}

template <class T>
GPU_KERNEL(kThreads)
void expand_kernel(LoraArgs<T> args) {
  constexpr int kVec = kPerVec<T>;
  GPU_SHARED(float, h, [kMaxRank][kRows]);
  const Rows rows(args);
  if (rows.count <= 0) return;
  const int rank = args.ranks[rows.slot];
  for (int i = static_cast<int>(thread_x()); i < rank * kRows; i += kThreads) {
    const int t = i % kRows, r = i / kRows;
    h[r][t] = t < rows.count ? args.h[int64_t{rows.first + t} * args.max_rank + r] : 0.0f;
  }
  block_sync();
  const int64_t column = (int64_t{block_y()} * kThreads + thread_x()) * kVec;
  if (column >= args.n && !GPU_PLANTED("lora: past the columns")) return;
  const T* b = args.b + int64_t{rows.slot} * args.max_rank * args.n + column;
  float sums[kRows][kVec] = {};
  for (int r = 0; r < rank; ++r) {
    float w[kVec];
    load_values(b + r * args.n, w);
    GPU_UNROLL for (int t = 0; t < kRows; ++t) {
      GPU_UNROLL for (int j = 0; j < kVec; ++j) sums[t][j] = fmaf(h[r][t], w[j], sums[t][j]);
    }
  }
  const float scale = args.scales[rows.slot];
  GPU_UNROLL for (int t = 0; t < kRows; ++t) {
    if (t >= rows.count) break;
    T* y = args.y + (rows.first + t) * args.y_stride + column;
    float v[kVec];
    load_values(y, v);
    GPU_UNROLL for (int j = 0; j < kVec; ++j) v[j] = fmaf(scale, sums[t][j], v[j]);
    store_values(y, v);
  }
}

}  // namespace

template <class T>
void lora(const LoraArgs<T>& args, Stream stream) {
  if (args.rows == 0) return;
  if (args.max_rank <= 0 || args.max_rank > kMaxRank) {
    throw std::invalid_argument("LoRA on a GPU: the rank is " + std::to_string(args.max_rank) + ", it can be up to " +
                                std::to_string(kMaxRank));
  }
  if (!rows_are_vectors<T>(args.x, args.k, args.x_stride) || !rows_are_vectors<T>(args.y, args.n, args.y_stride) ||
      !rows_are_vectors<T>(args.a, args.k, 0) || !rows_are_vectors<T>(args.b, args.n, 0)) {
    throw std::invalid_argument("LoRA on a GPU: a stride or an address is no multiple of 16 bytes");
  }
  const auto tiles = static_cast<unsigned>(args.rows / kRows + args.segments);
  // A warp of 64 leaves half as many to a block: the surplus leaves at once where there are twice as many.
  const auto columns = static_cast<unsigned>((args.max_rank + kThreads / 64 - 1) / (kThreads / 64));
  const int64_t vectors = args.n / kPerVec<T>;
  GPU_LAUNCH((shrink_kernel<T>), (Dim3{tiles, columns}), kThreads, 0, stream, args);
  GPU_LAUNCH((expand_kernel<T>), (Dim3{tiles, static_cast<unsigned>((vectors + kThreads - 1) / kThreads)}), kThreads, 0,
             stream, args);
}

template void lora(const LoraArgs<float>&, Stream);
template void lora(const LoraArgs<f16>&, Stream);
template void lora(const LoraArgs<bf16>&, Stream);

}  // namespace pf::gpu
