// A block takes one query token, up to kRows of the query heads that share a KV head, and one split of the context.
// Inside, kLanes lanes take one position, sixteen bytes of its key and its value each; every such group of lanes has
// its own running softmax (M. Milakov and N. Gimelshein, 2018), so that only the dot products cross lanes on the way:
//
//     split |-- positions ------------------------------------------------------|
//     warp   0: 0..p-1      1: p..2p-1     2: ...     next turn of warp 0 ...       p = kWarp / kLanes positions a warp
//
// States are merged in a fixed order: groups of a warp by a tree, then warps ascending, then splits ascending. Which
// group takes a position depends on the position alone; hence a token's result does not depend on the batch.
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../../../gpu/values.h"
#include "attention.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr float kLog2e = 1.44269504f;

constexpr int power_of_two_from(int n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

template <class C, int kDim>
struct Lanes {
  static constexpr int kVecs = kDim / kPerVec<C>;  // of one position
  static constexpr int kLanes = power_of_two_from(kVecs) < kWarp ? power_of_two_from(kVecs) : kWarp;
  static constexpr int kVecsPerLane = (kVecs + kLanes - 1) / kLanes;
  static constexpr int kElements = kVecsPerLane * kPerVec<C>;
  static constexpr int kPositions = kWarp / kLanes;  // of one warp at once

  // Where a channel lies in shared memory: lanes write every kPerVec-th channel and read neighbouring ones, and meet no
  // bank twice either way.
  static GPU_DEVICE int place(int channel) { return channel ^ (channel / 32 % kPerVec<C>); }
};

// What one query token sees, positions [begin, end), and where they lie.
struct Context {
  int begin, end;
  const int32_t* table;
};

template <class T, class C>
GPU_DEVICE Context context_of(const AttentionArgs<T, C>& args, int token) {
  int low = 0, high = args.seqs - 1;  // the last sequence that starts at or before the token
  while (low < high) {
    const int mid = (low + high + 1) / 2;
    if (args.query_start[mid] <= token) {
      low = mid;
    } else {
      high = mid - 1;
    }
  }
  const int end =
      args.seq_lens[low] - args.query_start[low + 1] + token + (GPU_PLANTED("attention: sees the future") ? 2 : 1);
  const int begin = args.window > 0 && end > args.window ? end - args.window : 0;
  return {begin, end, args.block_tables + static_cast<int64_t>(low) * args.max_blocks};
}

// What a state's numbers are multiplied with when its largest score becomes `larger`; an empty state has none.
GPU_DEVICE float rescale(float largest, float larger) { return largest == -INFINITY ? 0.0f : exp2f(largest - larger); }

GPU_DEVICE float cap_score(float score, float softcap) {
  return softcap == 0.0f ? score : softcap * tanhf(score / softcap);
}

// The partial state of one split, head and token: its largest score, the sum of weights, the weighted sum of values.
GPU_DEVICE float* partial_of(float* partials, int64_t token, int64_t heads, int64_t head, int64_t splits, int64_t split,
                             int64_t dim) {
  return partials + ((token * heads + head) * splits + split) * (dim + 2);
}

template <class T, class C, int kDim, int kRows>
GPU_KERNEL(kThreads)
void attend_kernel(AttentionArgs<T, C> args, int chunks, int splits) {
  using L = Lanes<C, kDim>;
  constexpr int kVec = kPerVec<C>;
  GPU_SHARED(float, shared_o, [kWarps][kRows][kDim]);
  GPU_SHARED(float, shared_m, [kWarps][kRows]);
  GPU_SHARED(float, shared_l, [kWarps][kRows]);
  const int index = static_cast<int>(block_x()), split = static_cast<int>(block_z());
  const int token = args.rows == nullptr ? index : args.rows[index];
  const int kv_head = static_cast<int>(block_y()) / chunks, group = args.heads / args.cache.kv_heads;
  const int first_row = static_cast<int>(block_y()) % chunks * kRows;
  const int rows = group - first_row < kRows ? group - first_row : kRows;
  const int head = kv_head * group + first_row, dim = args.cache.head_dim;
  const Context context = context_of(args, token);
  const int split_begin = split * kAttentionSplit, split_end = split_begin + kAttentionSplit;
  if (split_end <= context.begin || split_begin >= context.end) return;

  const int lane = lane_id(), sub = lane % L::kLanes;
  float q[kRows][L::kElements], o[kRows][L::kElements], m[kRows], l[kRows];
  GPU_UNROLL for (int r = 0; r < kRows; ++r) {
    m[r] = -INFINITY;
    l[r] = 0.0f;
    GPU_UNROLL for (int j = 0; j < L::kVecsPerLane; ++j) {
      const int channel = (j * L::kLanes + sub) * kVec;
      float part[kVec] = {};
      if (r < rows && channel < dim) load_values(args.q + token * args.q_stride + (head + r) * dim + channel, part);
      GPU_UNROLL for (int i = 0; i < kVec; ++i) {
        q[r][j * kVec + i] = part[i] * args.scale * args.cache.k_scale;
        o[r][j * kVec + i] = 0.0f;
      }
    }
  }

  const int stop = split_end < context.end ? split_end : context.end;
  for (int base = split_begin + warp_id() * L::kPositions; base < stop; base += kWarps * L::kPositions) {
    const int position = base + lane / L::kLanes;
    const bool visible = position >= context.begin && position < stop;
    float k[L::kElements] = {}, v[L::kElements] = {}, k_scale = 1.0f, v_scale = 1.0f;
    if (visible) {
      const int block = context.table[position / args.cache.block_size];
      const int64_t at = args.cache.offset(block, position % args.cache.block_size, kv_head);
      if constexpr (std::is_same_v<C, int8_t>) {
        k_scale = args.cache.k_scales[at / dim];
        v_scale = args.cache.v_scales[at / dim];
      }
      GPU_UNROLL for (int j = 0; j < L::kVecsPerLane; ++j) {
        const int channel = (j * L::kLanes + sub) * kVec;
        if (channel >= dim) continue;
        float part[kVec];
        load_values(args.cache.k + at + channel, part);
        GPU_UNROLL for (int i = 0; i < kVec; ++i) k[j * kVec + i] = part[i];
        load_values(args.cache.v + at + channel, part);
        GPU_UNROLL for (int i = 0; i < kVec; ++i) v[j * kVec + i] = part[i];
      }
    }
    GPU_UNROLL for (int r = 0; r < kRows; ++r) {
      float score = 0.0f;
      GPU_UNROLL for (int i = 0; i < L::kElements; ++i) score = fmaf(q[r][i], k[i], score);
      GPU_UNROLL for (int mask = 1; mask < L::kLanes; mask *= 2) score += shuffle_xor(score, mask);
      if (!visible) continue;
      score = cap_score(score * k_scale, args.softcap) * kLog2e;
      const float larger = fmaxf(m[r], score), keep = rescale(m[r], larger), weight = exp2f(score - larger);
      const float share = weight * v_scale;
      m[r] = larger;
      l[r] = fmaf(l[r], keep, weight);
      GPU_UNROLL for (int i = 0; i < L::kElements; ++i) o[r][i] = fmaf(o[r][i], keep, share * v[i]);
    }
  }

  GPU_UNROLL for (int r = 0; r < kRows; ++r) {
    GPU_UNROLL for (int mask = L::kLanes; mask < kWarp; mask *= 2) {
      const float other = shuffle_xor(m[r], mask), larger = fmaxf(m[r], other);
      const float keep = rescale(m[r], larger), take = rescale(other, larger);
      m[r] = larger;
      l[r] = l[r] * keep + shuffle_xor(l[r], mask) * take;
      GPU_UNROLL for (int i = 0; i < L::kElements; ++i) o[r][i] = o[r][i] * keep + shuffle_xor(o[r][i], mask) * take;
    }
    if (lane == 0) {
      shared_m[warp_id()][r] = m[r];
      shared_l[warp_id()][r] = l[r];
    }
    GPU_UNROLL for (int j = 0; j < L::kVecsPerLane; ++j) {
      const int channel = (j * L::kLanes + sub) * kVec;
      if (lane >= L::kLanes || channel >= dim) continue;
      GPU_UNROLL for (int i = 0; i < kVec; ++i) { shared_o[warp_id()][r][L::place(channel + i)] = o[r][j * kVec + i]; }
    }
  }
  block_sync();

  const bool alone = split_begin <= context.begin && split_end >= context.end;
  for (int i = static_cast<int>(thread_x()); i < rows * dim; i += kThreads) {
    const int r = i / dim, channel = i % dim;
    float largest = -INFINITY, sum = 0.0f, value = 0.0f;
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, shared_m[w][r]);
    for (int w = GPU_PLANTED("attention: forgets a warp") ? 1 : 0; w < kWarps; ++w) {
      const float take = rescale(shared_m[w][r], largest);
      sum = fmaf(shared_l[w][r], take, sum);
      value = fmaf(shared_o[w][r][L::place(channel)], take, value);
    }
    if (alone) {
      args.out[token * args.out_stride + (head + r) * dim + channel] = from_float<T>(value / sum * args.cache.v_scale);
      continue;
    }
    float* partial = partial_of(args.partials, index, args.heads, head + r, splits, split, dim);
    if (channel == 0) {
      partial[0] = largest;
      partial[1] = sum;
    }
    partial[2 + channel] = value;
  }
}

// One block a token and head: merges the splits that the token sees, if there are several.
template <class T, class C>
GPU_KERNEL(256)
void merge_splits_kernel(AttentionArgs<T, C> args, int splits) {
  const int index = static_cast<int>(block_x()), head = static_cast<int>(block_y()), dim = args.cache.head_dim;
  const int token = args.rows == nullptr ? index : args.rows[index];
  const int channel = static_cast<int>(thread_x());
  const Context context = context_of(args, token);
  const int first = context.begin / kAttentionSplit, last = (context.end - 1) / kAttentionSplit;
  if (first == last || channel >= dim) return;
  float largest = -INFINITY, sum = 0.0f, value = 0.0f;
  for (int s = first; s <= last; ++s) {
    largest = fmaxf(largest, partial_of(args.partials, index, args.heads, head, splits, s, dim)[0]);
  }
  for (int s = first + (GPU_PLANTED("attention: forgets a split") ? 1 : 0); s <= last; ++s) {
    const float* partial = partial_of(args.partials, index, args.heads, head, splits, s, dim);
    const float take = rescale(partial[0], largest);
    sum = fmaf(partial[1], take, sum);
    value = fmaf(partial[2 + channel], take, value);
  }
  args.out[token * args.out_stride + head * dim + channel] = from_float<T>(value / sum * args.cache.v_scale);
}

int splits_of(int64_t max_len) { return static_cast<int>((max_len + kAttentionSplit - 1) / kAttentionSplit); }

template <class T, class C, int kDim>
void launch(const AttentionArgs<T, C>& args, Stream stream) {
  const int group = args.heads / args.cache.kv_heads, splits = splits_of(args.max_len);
  const auto tokens = static_cast<unsigned>(args.tokens);
  // Four rows of a KV head share what is loaded; eight would take all registers of sm_90.
  if (group == 1) {
    const Dim3 grid = {tokens, static_cast<unsigned>(args.cache.kv_heads), static_cast<unsigned>(splits)};
    GPU_LAUNCH((attend_kernel<T, C, kDim, 1>), grid, kThreads, 0, stream, args, 1, splits);
  } else {
    const int chunks = (group + 3) / 4;
    const Dim3 grid = {tokens, static_cast<unsigned>(args.cache.kv_heads * chunks), static_cast<unsigned>(splits)};
    GPU_LAUNCH((attend_kernel<T, C, kDim, 4>), grid, kThreads, 0, stream, args, chunks, splits);
  }
  if (splits > 1) {
    const Dim3 grid = {tokens, static_cast<unsigned>(args.heads)};
    GPU_LAUNCH((merge_splits_kernel<T, C>), grid, (args.cache.head_dim + 31) / 32 * 32, 0, stream, args, splits);
  }
}

}  // namespace

size_t attention_partials(int64_t tokens, int64_t heads, int64_t head_dim, int64_t max_len) {
  return static_cast<size_t>(tokens * heads * splits_of(max_len) * (head_dim + 2));
}

template <class T, class C>
void attention(const AttentionArgs<T, C>& args, Stream stream) {
  if (args.tokens == 0) return;
  switch (args.cache.head_dim) {
    case 64:
      return launch<T, C, 64>(args, stream);
    case 80:  // the same lanes, some of them without work
    case 96:
    case 128:
      return launch<T, C, 128>(args, stream);
    case 256:
      return launch<T, C, 256>(args, stream);
    default:
      throw std::invalid_argument("attention on a GPU: head_dim is " + std::to_string(args.cache.head_dim) +
                                  ", it can be 64, 80, 96, 128 or 256");
  }
}

template void attention(const AttentionArgs<float, float>&, Stream);
template void attention(const AttentionArgs<float, f16>&, Stream);
template void attention(const AttentionArgs<f16, f16>&, Stream);
template void attention(const AttentionArgs<bf16, bf16>&, Stream);
template void attention(const AttentionArgs<bf16, e4m3>&, Stream);
template void attention(const AttentionArgs<float, int8_t>&, Stream);
template void attention(const AttentionArgs<bf16, int8_t>&, Stream);

}  // namespace pf::gpu
