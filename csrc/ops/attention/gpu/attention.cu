// A block takes one query token, up to kRows of the query heads that share a KV head, and one split of the context.
// Inside, kLanes lanes take one position, sixteen bytes of its key and its value each; every such group of lanes has
// its own running softmax (M. Milakov and N. Gimelshein, 2018), so that only the dot products cross lanes on the way:
//
//     split |-- positions ------------------------------------------------------|
//     warp   0: 0..p-1      1: p..2p-1     2: ...     next turn of warp 0 ...       p = kWarp / kLanes positions a warp
//
// States are merged in a fixed order: groups of a warp by a tree, then warps ascending, then splits ascending. Which
// group takes a position depends on the position alone; hence a token's result does not depend on the batch.
//
// Where there are bulk copies (sm_90 and later) the positions come through a ring of stages in shared memory, so that
// what is under way does not cost registers; elsewhere each lane loads its own. Sums are the same, bit for bit.
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
  // Channels that a lane loads at once. Sixteen of an 8-bit cache take so many registers that the large warps of AMD's
  // GPUs would be two to a SIMD; with eight they are four, and as many bytes are under way.
  static constexpr int kVec = kWarp == 64 && sizeof(C) == 1 ? 8 : kPerVec<C>;
  static constexpr int kVecs = kDim / kVec;  // of one position
  static constexpr int kLanes = power_of_two_from(kVecs) < kWarp ? power_of_two_from(kVecs) : kWarp;
  static constexpr int kVecsPerLane = (kVecs + kLanes - 1) / kLanes;
  static constexpr int kElements = kVecsPerLane * kVec;
  static constexpr int kPositions = kWarp / kLanes;  // of one warp at once
  static constexpr int kTurn = kWarps * kPositions;  // of the block

  // Where a channel lies in shared memory: lanes write every kVec-th channel and read neighbouring ones, and meet no
  // bank twice either way.
  static GPU_DEVICE int place(int channel) { return channel ^ (channel / 32 % kVec); }
};

// What one query token sees: positions [begin, end) of a sequence.
struct Context {
  int seq, begin, end;
};

template <class Args>
GPU_DEVICE Context context_of(const Args& args, int token) {
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
  return {low, begin, end};
}

// What a state's numbers are multiplied with when its largest score becomes `larger`; an empty state has none.
GPU_DEVICE float rescale(float largest, float larger) { return largest == -INFINITY ? 0.0f : exp2f(largest - larger); }

GPU_DEVICE float cap_score(float score, float softcap) {
  return softcap == 0.0f ? score : softcap * tanhf(score / softcap);
}

// The partial state of one split, head and token. Weighted sums of all lie side by side, so that each is whole sectors.
template <class F>
struct Partial {
  F* sums;    // [dim], of values
  F* weight;  // the largest score, and the sum of weights
};
template <class F>
GPU_DEVICE Partial<F> partial_of(F* partials, int64_t tokens, int64_t token, int64_t heads, int64_t head,
                                 int64_t splits, int64_t split, int64_t dim) {
  const int64_t at = (token * heads + head) * splits + split;
  return {partials + at * dim, partials + tokens * heads * splits * dim + 2 * at};
}

#if GPU_HAS_BULK

// Keys and values of the block's positions, eight KiB a stage. One thread asks for them, a copy for each piece that
// lies in one cache block; every warp says when it has read a stage.
template <class T, class C, int kDim>
struct Ring {
  using L = Lanes<C, kDim>;
  static constexpr int kStages = 3;
  static constexpr int kPositions = 2 * L::kTurn / L::kVecsPerLane;  // of a stage
  static constexpr int kKeyVecs = kPositions * kDim / kPerVec<C>;

  const AttentionArgs<T, C>& args;
  const int32_t* table;
  const int kv_head, split_begin, begin, stop;  // positions [begin, stop) of the split that starts at split_begin
  Vec16 (&stages)[kStages][2 * kKeyVecs];
  Mbarrier (&full)[kStages];
  Mbarrier (&empty)[kStages];

  // Stages are numbered from the split's first position.
  GPU_DEVICE int first_stage() const { return (begin - split_begin) / kPositions; }
  GPU_DEVICE int last_stage() const { return (stop - 1 - split_begin) / kPositions; }
  static GPU_DEVICE int place(int stage) { return stage % kStages; }
  GPU_DEVICE const C* keys(int stage) const { return reinterpret_cast<const C*>(stages[place(stage)]); }
  GPU_DEVICE const C* values(int stage) const { return reinterpret_cast<const C*>(stages[place(stage)] + kKeyVecs); }
  // Of the phase in which a stage lands in its place: stages before the first one have none.
  GPU_DEVICE unsigned parity(int stage) const { return static_cast<unsigned>((stage - first_stage()) / kStages) % 2; }

  GPU_DEVICE void fetch(int stage) const {
    const int stage_begin = split_begin + stage * kPositions, stage_end = stage_begin + kPositions;
    const int from = stage_begin > begin ? stage_begin : begin, to = stage_end < stop ? stage_end : stop;
    const int dim = args.cache.head_dim, size = args.cache.block_size, row = dim * static_cast<int>(sizeof(C));
    Mbarrier* landed = &full[place(stage)];
    barrier_wait(&empty[place(stage)], parity(stage) ^ 1);
    barrier_arrive_expect(landed, 2 * (to - from) * row);
    for (int position = from; position < to;) {
      const int in_block = position % size, left = to - position;
      const int count = size - in_block < left ? size - in_block : left;
      const int64_t at = args.cache.offset(table[position / size], in_block, kv_head);
      const int target = (position - stage_begin) * dim;
      copy_bulk(const_cast<C*>(keys(stage)) + target, args.cache.k + at, count * row, landed);
      copy_bulk(const_cast<C*>(values(stage)) + target, args.cache.v + at, count * row, landed);
      position += count;
    }
  }

  // By all threads, before anything else.
  GPU_DEVICE void start() const {
    const int first = first_stage();
    if (thread_x() == 0) {
      GPU_UNROLL for (int s = 0; s < kStages; ++s) {
        barrier_init(&full[s], 1);
        barrier_init(&empty[s], kWarps);
      }
      fence_async();
    }
    block_sync();
    for (int i = first; thread_x() == 0 && i < first + kStages - 1 && i <= last_stage(); ++i) fetch(i);
  }

  // A warp's turns begin at ascending positions. A stage is entered with the first of its turns and left with the last;
  // warps that have no turn in the end of the last stage need not leave it, since nobody waits for that. The first warp
  // has turns in all of them.
  GPU_DEVICE int stage_of(int position) const { return (position - split_begin) / kPositions; }
  GPU_DEVICE void enter(int position) const {
    const int stage = stage_of(position);
    if ((position - split_begin) % kPositions >= L::kTurn) return;
    if (thread_x() == 0 && stage + kStages - 1 <= last_stage()) fetch(stage + kStages - 1);
    barrier_wait(&full[place(stage)], parity(stage));
  }
  GPU_DEVICE void leave(int position) const {
    if ((position - split_begin) % kPositions < kPositions - L::kTurn) return;
    warp_sync();
    if (lane_id() == 0) barrier_arrive(&empty[place(stage_of(position))]);
  }
  // Elements between a stage's begin and the position's.
  GPU_DEVICE int offset(int position) const { return (position - split_begin) % kPositions * args.cache.head_dim; }
};

#endif

template <class T, class C, int kDim, int kRows>
GPU_KERNEL(kThreads)
void attend_kernel(AttentionArgs<T, C> args, int chunks, int splits) {
  using L = Lanes<C, kDim>;
  constexpr int kVec = L::kVec;
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
  const int32_t* table = args.block_tables + int64_t{context.seq} * args.max_blocks;
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
#if GPU_HAS_BULK
  using R = Ring<T, C, kDim>;
  GPU_SHARED(Vec16, stages, [R::kStages][2 * R::kKeyVecs]);
  GPU_SHARED(Mbarrier, full, [R::kStages]);
  GPU_SHARED(Mbarrier, empty, [R::kStages]);
  const int begin = split_begin > context.begin ? split_begin : context.begin;
  const R ring = {args, table, kv_head, split_begin, begin, stop, stages, full, empty};
  if (has_bulk()) ring.start();
  const int skipped = ring.first_stage() * R::kPositions;
#else
  const int skipped = 0;
#endif
  for (int base = split_begin + skipped + warp_id() * L::kPositions; base < stop; base += L::kTurn) {
#if GPU_HAS_BULK
    if (has_bulk()) ring.enter(base);
#endif
    const int position = base + lane / L::kLanes;
    const bool visible = position >= context.begin && position < stop;
    float k[L::kElements] = {}, v[L::kElements] = {}, k_scale = 1.0f, v_scale = 1.0f;
    if (visible) {
      const int block = table[position / args.cache.block_size];
      const int64_t at = args.cache.offset(block, position % args.cache.block_size, kv_head);
      if constexpr (std::is_same_v<C, int8_t>) {
        k_scale = args.cache.k_scales[at / dim];
        v_scale = args.cache.v_scales[at / dim];
      }
      const C *key = args.cache.k + at, *value = args.cache.v + at;
#if GPU_HAS_BULK
      if (has_bulk()) {
        key = ring.keys(ring.stage_of(base)) + ring.offset(position);
        value = ring.values(ring.stage_of(base)) + ring.offset(position);
      }
#endif
      GPU_UNROLL for (int j = 0; j < L::kVecsPerLane; ++j) {
        const int channel = (j * L::kLanes + sub) * kVec;
        if (channel >= dim) continue;
        float part[kVec];
        load_values(key + channel, part);
        GPU_UNROLL for (int i = 0; i < kVec; ++i) k[j * kVec + i] = part[i];
        load_values(value + channel, part);
        GPU_UNROLL for (int i = 0; i < kVec; ++i) v[j * kVec + i] = part[i];
      }
    }
    GPU_UNROLL for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;  // the whole block does
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
#if GPU_HAS_BULK
    if (has_bulk()) ring.leave(base);
#endif
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
    const auto partial = partial_of(args.partials, args.tokens, index, args.heads, head + r, splits, split, dim);
    if (channel == 0) {
      partial.weight[0] = largest;
      partial.weight[1] = sum;
    }
    partial.sums[channel] = value;
  }
}

// The part of AttentionArgs that has to do with splits. One kernel writes all types: it is told which.
enum class Output { kFloat, kF16, kBf16 };
template <class T>
constexpr Output kOutput = std::is_same_v<T, float> ? Output::kFloat
                           : std::is_same_v<T, f16> ? Output::kF16
                                                    : Output::kBf16;

struct MergeArgs {
  void* out;
  Output type;
  const float* partials;
  const int32_t *query_start, *seq_lens, *rows;
  int64_t out_stride;
  int tokens, seqs, heads, head_dim, window, splits;
  float v_scale;
};

template <class T, class C>
MergeArgs merge_of(const AttentionArgs<T, C>& args, int splits) {
  return {args.out,    kOutput<T>, args.partials, args.query_start,    args.seq_lens, args.rows, args.out_stride,
          args.tokens, args.seqs,  args.heads,    args.cache.head_dim, args.window,   splits,    args.cache.v_scale};
}

// One block a token and head: merges the splits that the token sees, if there are several.
GPU_KERNEL(256)
void merge_splits_kernel(MergeArgs args) {
  const int index = static_cast<int>(block_x()), head = static_cast<int>(block_y()), dim = args.head_dim;
  const int splits = args.splits;
  const int token = args.rows == nullptr ? index : args.rows[index];
  const int channel = static_cast<int>(thread_x());
  const Context context = context_of(args, token);
  const int first = context.begin / kAttentionSplit, last = (context.end - 1) / kAttentionSplit;
  if (first == last || channel >= dim) return;
  float largest = -INFINITY, sum = 0.0f, value = 0.0f;
  for (int s = first; s <= last; ++s) {
    largest = fmaxf(largest, partial_of(args.partials, args.tokens, index, args.heads, head, splits, s, dim).weight[0]);
  }
  for (int s = first + (GPU_PLANTED("attention: forgets a split") ? 1 : 0); s <= last; ++s) {
    const auto partial = partial_of(args.partials, args.tokens, index, args.heads, head, splits, s, dim);
    const float take = rescale(partial.weight[0], largest);
    sum = fmaf(partial.weight[1], take, sum);
    value = fmaf(partial.sums[channel], take, value);
  }
  value = value / sum * args.v_scale;
  const int64_t at = token * args.out_stride + head * dim + channel;
  if (args.type == Output::kFloat) {
    static_cast<float*>(args.out)[at] = value;
  } else if (args.type == Output::kF16) {
    static_cast<f16*>(args.out)[at] = from_float<f16>(value);
  } else {
    static_cast<bf16*>(args.out)[at] = from_float<bf16>(value);
  }
}

int splits_of(int64_t max_len) { return static_cast<int>((max_len + kAttentionSplit - 1) / kAttentionSplit); }

template <class T, class C, int kDim>
void launch(const AttentionArgs<T, C>& args, Stream stream) {
  const int group = args.heads / args.cache.kv_heads, splits = splits_of(args.max_len);
  const auto tokens = static_cast<unsigned>(args.tokens);
  const int chunks = (group + 3) / 4;
  const Dim3 grid = {tokens, static_cast<unsigned>(args.cache.kv_heads * chunks), static_cast<unsigned>(splits)};
  // Four rows of a KV head share what is loaded; eight would take all registers of sm_90. A lone row has a kernel of
  // its own, with fewer registers, only where models have it: all get the same bits from either.
  if constexpr (kDim == 128 && sizeof(T) == 2 && std::is_same_v<T, C>) {
    if (group == 1) {
      GPU_LAUNCH((attend_kernel<T, C, kDim, 1>), grid, kThreads, 0, stream, args, chunks, splits);
    } else {
      GPU_LAUNCH((attend_kernel<T, C, kDim, 4>), grid, kThreads, 0, stream, args, chunks, splits);
    }
  } else {
    GPU_LAUNCH((attend_kernel<T, C, kDim, 4>), grid, kThreads, 0, stream, args, chunks, splits);
  }
  if (splits > 1) {
    const Dim3 heads = {tokens, static_cast<unsigned>(args.heads)};
    GPU_LAUNCH(merge_splits_kernel, heads, (args.cache.head_dim + 31) / 32 * 32, 0, stream, merge_of(args, splits));
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
