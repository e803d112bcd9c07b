// Attention in tiles (FlashAttention-2: T. Dao, 2023). A block takes kRows query rows of one sequence and KV head: a
// row is a token and one of the query heads that share the KV head, so that what is loaded serves the whole group.
//
//     rows of a sequence, group 3:   t0h0 t0h1 t0h2 t1h0 t1h1 ...      sixteen to a warp, kRows to a block
//     positions                      | tile | tile | tile | ...        kKeys each, at absolute places
//
// While a tile is multiplied the next one is copied into shared memory. Rows of shared memory are swizzled: chunk c of
// 16 bytes lies at c ^ key(row), and neither copies nor ldmatrix meet a bank twice. An 8-bit cache is copied as it is
// and becomes T on the way from one part of shared memory to another. Codes of int8 are exact in T, and their scales
// are left to where sums are floats: a key's multiplies its score, a value's the weight that it is summed with.
//
// Why the bits of a row depend on nothing but what it sees: tiles lie at absolute positions and come in ascending
// order; a position that a row does not see has weight zero, and a tile of such positions multiplies its state by one
// and adds zero. So it does not matter which other rows made a block go through that tile.
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../../../gpu/segments.h"
#include "../../../gpu/values.h"
#include "prefill.h"

#if GPU_HAS_MMA

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kRows = 16 * kWarps;
constexpr float kLog2e = 1.44269504f;

template <class T, class C, int kDim>
struct Tile {
  static constexpr bool kConverts = !std::is_same_v<T, C>;
  static constexpr bool kScales = std::is_same_v<C, int8_t>;  // one of each key and value
  // Queries of 256 channels would take too many registers: they stay in shared memory.
  static constexpr bool kKeepsQ = kDim <= 128;
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  static constexpr int kChunks = kDim / kPerVec<T>;  // of one row
  static constexpr int kStage = kKeys * kDim;        // elements of keys, or of values

  T* q;           // [kRows][kDim], later the output
  C* stages;      // [2][keys, values][kKeys][kDim]
  T* tiles;       // [keys, values][kKeys][kDim], if kConverts
  float* scales;  // [2][keys, values][kKeys], if kScales

  GPU_DEVICE explicit Tile(Vec16* memory)
      : q(reinterpret_cast<T*>(memory)),
        stages(reinterpret_cast<C*>(q + kRows * kDim)),
        tiles(reinterpret_cast<T*>(stages + 4 * kStage)),
        scales(reinterpret_cast<float*>(tiles + 2 * kStage)) {}
  static constexpr size_t bytes() {
    return sizeof(T) * kRows * kDim + sizeof(C) * 4 * kStage + (kConverts ? sizeof(T) * 2 * kStage : 0) +
           (kScales ? sizeof(float) * 4 * kKeys : 0);
  }

  // What the chunks of a row are swizzled with. Rows of twelve chunks begin in one half of the banks or the other.
  static GPU_DEVICE int key(int row) { return kChunks % 8 == 0 ? row % 8 : row / 2 % 4; }
  static GPU_DEVICE int place(int row, int chunk) {
    return (row * kChunks + (GPU_PLANTED("prefill: no swizzle") ? chunk : chunk ^ key(row))) * kPerVec<T>;
  }
};

// The sequence and rows of a block. Sequence s owns blocks from query_start[s] * group / kRows + s on, which leaves
// each at least as many as it needs, so that no list of tiles has to be made.
template <class T, class C>
struct Rows {
  int seq, first_token, context, group;
  int first, count;  // rows of the sequence; count may be 0 or less
  int64_t head;      // the first of the group

  GPU_DEVICE explicit Rows(const PrefillArgs<T, C>& args) {
    group = args.heads / args.cache.kv_heads;
    const int block = static_cast<int>(block_x());
    seq = piece_of(args.seqs, block, [&](int s) { return first_block(args, s); });
    first_token = args.query_start[seq];
    context = args.seq_lens[seq];
    const int queries = args.query_start[seq + 1] - first_token;
    first = (block - first_block(args, seq)) * kRows;
    const int end = args.query_ends == nullptr ? first_token + queries : args.query_ends[seq];
    count = (end - first_token) * group - first;
    offset = context - queries;
    head = int64_t{block_y()} * group;
  }

  GPU_DEVICE int token(int row) const { return first_token + (first + row) / group; }
  // Where a row lies in q or out.
  GPU_DEVICE int64_t at(int row, int64_t stride, int head_dim) const {
    return token(row) * stride + (head + (first + row) % group) * head_dim;
  }
  // Positions that a row sees; none of a row past the end.
  GPU_DEVICE int end(const PrefillArgs<T, C>& args, int row) const {
    if (row >= count) return 0;
    if (args.ends != nullptr) return args.ends[token(row)];
    return offset + (first + row) / group + (GPU_PLANTED("prefill: sees the future") ? 2 : 1);
  }
  GPU_DEVICE int begin(const PrefillArgs<T, C>& args, int row) const {
    if (row >= count) return context;
    const int position = offset + (first + row) / group;
    return args.window > 0 && position + 1 > args.window ? position + 1 - args.window : 0;
  }

 private:
  int offset;  // position of the first query
  GPU_DEVICE static int first_block(const PrefillArgs<T, C>& args, int s) {
    return static_cast<int>(int64_t{args.query_start[s]} * (args.heads / args.cache.kv_heads) / kRows) + s;
  }
};

GPU_DEVICE int warp_least(int value) {
  GPU_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const int other = shuffle_xor(value, mask);
    value = other < value ? other : value;
  }
  return value;
}

// Begins copying the positions from `first` on into `stage`; those outside [begin, end) become zeros.
template <class T, class C, int kDim>
GPU_DEVICE void copy_tile(const PrefillArgs<T, C>& args, const Rows<T, C>& rows, C* stage, int first, int begin,
                          int end) {
  using S = Tile<T, C, kDim>;
  constexpr int kVecs = kDim / kPerVec<C>;  // of one position
  static_assert(S::kKeys * kVecs % kThreads == 0);
  GPU_UNROLL for (int i = 0; i < S::kKeys * kVecs / kThreads; ++i) {
    const int index = i * kThreads + opaque(static_cast<int>(thread_x())), key = index / kVecs, vec = index % kVecs;
    const int position = first + key, channel = vec * kPerVec<C>;
    const bool valid = position >= begin && position < end && channel < args.cache.head_dim;
    int64_t from = 0;
    if (valid && args.block_tables != nullptr) {
      const int size = args.cache.block_size;
      const int block = args.block_tables[static_cast<int64_t>(rows.seq) * args.max_blocks + position / size];
      from = args.cache.offset(block, position % size, static_cast<int>(block_y())) + channel;
    } else if (valid) {
      from = (rows.first_token + position) * args.kv_stride + int64_t{block_y()} * args.cache.head_dim + channel;
    }
    const int to = S::kConverts ? index * kPerVec<C> : S::place(key, vec);
    copy_async<16>(stage + to, args.cache.k + from, valid);
    copy_async<16>(stage + S::kStage + to, args.cache.v + from, valid);
  }
}

// Begins copying the scales of the same positions, four bytes a thread: keys', then values'.
template <class T, class C, int kDim>
GPU_DEVICE void copy_scales(const PrefillArgs<T, C>& args, const Rows<T, C>& rows, float* stage, int first, int begin,
                            int end) {
  constexpr int kKeys = Tile<T, C, kDim>::kKeys;
  static_assert(2 * kKeys <= kThreads);
  const int thread = static_cast<int>(thread_x()), position = first + thread % kKeys, size = args.cache.block_size;
  if (thread >= 2 * kKeys) return;
  const bool valid = position >= begin && position < end;
  int64_t from = 0;
  if (valid) {
    const int block = args.block_tables[static_cast<int64_t>(rows.seq) * args.max_blocks + position / size];
    from = (int64_t{block} * args.cache.kv_heads + block_y()) * size + position % size;
  }
  copy_async<4>(stage + thread, (thread < kKeys ? args.cache.k_scales : args.cache.v_scales) + from, valid);
}

// Keys and values of a stage as T. A thread takes what it copied itself, so that it waits for nobody. Its sixteen
// elements are two chunks; which of them lanes write first alternates, so that eight lanes meet eight groups of banks.
template <class T, class C, int kDim>
GPU_DEVICE void convert_tile(const C* stage, T* tiles) {
  using S = Tile<T, C, kDim>;
  constexpr int kVecs = kDim / kPerVec<C>;
  GPU_UNROLL for (int i = 0; i < 2 * S::kKeys * kVecs / kThreads; ++i) {
    const int index = i * kThreads + opaque(static_cast<int>(thread_x())), row = index / kVecs, vec = index % kVecs;
    float values[kPerVec<C>];
    load_values(stage + index * kPerVec<C>, values);
    const int first = (lane_id() / 4 ^ S::key(row)) % 2;
    GPU_UNROLL for (int half = 0; half < 2; ++half) {
      const bool second = (half ^ first) != 0;
      float part[kPerVec<T>];
      GPU_UNROLL for (int e = 0; e < kPerVec<T>; ++e) part[e] = second ? values[kPerVec<T> + e] : values[e];
      store_shared(tiles + S::place(row, 2 * vec + (second ? 1 : 0)), pack<T>(part));
    }
  }
}

GPU_DEVICE float quad_sum(float value) {
  value += shuffle_xor(value, 1);
  return value + shuffle_xor(value, 2);
}
GPU_DEVICE float quad_max(float value) {
  value = fmaxf(value, shuffle_xor(value, 1));
  return fmaxf(value, shuffle_xor(value, 2));
}

template <class T, class C, int kDim>
GPU_KERNEL(kThreads)
void prefill_kernel(PrefillArgs<T, C> args) {
  using S = Tile<T, C, kDim>;
  constexpr int kVec = kPerVec<T>, kKeys = S::kKeys, kChunks = S::kChunks;
  GPU_DYNAMIC_SHARED(Vec16, memory);
  const Rows<T, C> rows(args);
  if (rows.count <= 0) return;
  const S shared(memory);
  const int lane = lane_id(), warp = warp_id(), quad = lane % 4, head_dim = args.cache.head_dim;

  // What the block sees, and what the warp.
  int begin = rows.context, end = 0;
  for (int row = lane; row < kRows; row += kWarp) {
    const int row_begin = rows.begin(args, row), row_end = rows.end(args, row);
    begin = row_begin < begin ? row_begin : begin;
    end = row_end > end ? row_end : end;
  }
  begin = warp_least(begin);
  end = -warp_least(-end);
  int row_begin[2], row_end[2];
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    row_begin[h] = rows.begin(args, 16 * warp + 8 * h + lane / 4);
    row_end[h] = rows.end(args, 16 * warp + 8 * h + lane / 4);
  }
  const int warp_begin = warp_least(row_begin[0] < row_begin[1] ? row_begin[0] : row_begin[1]);
  const int warp_end = -warp_least(row_end[0] > row_end[1] ? -row_end[0] : -row_end[1]);

  GPU_UNROLL for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int index = i * kThreads + opaque(static_cast<int>(thread_x())), row = index / kChunks,
              chunk = index % kChunks;
    const bool valid = row < rows.count && chunk * kVec < head_dim;
    const int64_t from = valid ? rows.at(row, args.q_stride, head_dim) + chunk * kVec : 0;
    copy_async<16>(shared.q + S::place(row, chunk), args.q + from, valid);
  }
  copy_async_commit();
  int first = begin / kKeys * kKeys, stage = 0;
  const auto copy_stage = [&](int to, int from) {
    copy_tile<T, C, kDim>(args, rows, shared.stages + to * 2 * S::kStage, from, begin, end);
    if constexpr (S::kScales) copy_scales<T, C, kDim>(args, rows, shared.scales + to * 2 * kKeys, from, begin, end);
    copy_async_commit();
  };
  copy_stage(stage, first);

  const auto load_q = [&](uint32_t (&fragment)[4], int step) {
    load_matrix(fragment, shared.q + S::place(16 * warp + lane % 16, 2 * step + lane / 16));
  };
  uint32_t q[S::kKeepsQ ? kDim / 16 : 1][4];
  if constexpr (S::kKeepsQ) {
    copy_async_wait<1>();
    block_sync();
    GPU_UNROLL for (int step = 0; step < kDim / 16; ++step) load_q(q[step], step);
  }

  float o[kDim / 8][4] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {};
  const float scale = args.scale * args.cache.k_scale;
  for (; first < end; first += kKeys, stage ^= 1) {
    const int turn_lane = opaque(lane);
    if (first + kKeys < end) {
      copy_stage(stage ^ 1, first + kKeys);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    const T* keys;
    if constexpr (S::kConverts) {
      convert_tile<T, C, kDim>(shared.stages + stage * 2 * S::kStage, shared.tiles);
      keys = shared.tiles;
    } else {
      keys = shared.stages + stage * 2 * S::kStage;
    }
    const T* values = keys + S::kStage;
    [[maybe_unused]] const float* k_scales = shared.scales + stage * 2 * kKeys + 2 * quad;
    [[maybe_unused]] const float* v_scales = k_scales + kKeys;
    block_sync();

    if (first < warp_end && first + kKeys > warp_begin) {
      float s[kKeys / 8][4] = {};
      GPU_UNROLL for (int step = 0; step < kDim / 16; ++step) {
        if constexpr (!S::kKeepsQ) load_q(q[0], step);
        GPU_UNROLL for (int n = 0; n < kKeys / 16; ++n) {
          uint32_t b[4];
          load_matrix(b, keys + S::place(16 * n + turn_lane / 16 * 8 + turn_lane % 8, 2 * step + turn_lane / 8 % 2));
          mma<T>(s[2 * n], q[S::kKeepsQ ? step : 0], {b[0], b[1]});
          mma<T>(s[2 * n + 1], q[S::kKeepsQ ? step : 0], {b[2], b[3]});
        }
      }

      GPU_UNROLL for (int h = 0; h < 2; ++h) {  // rows lane / 4 and lane / 4 + 8
        float largest = m[h];
        GPU_UNROLL for (int n = 0; n < kKeys / 8; ++n) {
          GPU_UNROLL for (int e = 2 * h; e < 2 * h + 2; ++e) {
            const int position = first + 8 * n + 2 * quad + e % 2;
            float score = s[n][e] * scale;
            if constexpr (S::kScales)
              score *= k_scales[8 * n + (GPU_PLANTED("prefill: a neighbour's scale") ? 0 : e % 2)];
            if (args.softcap != 0.0f) score = args.softcap * tanhf(score / args.softcap);
            s[n][e] = position >= row_begin[h] && position < row_end[h] ? score * kLog2e : -INFINITY;
            largest = fmaxf(largest, s[n][e]);
          }
        }
        largest = quad_max(largest);
        const float base = largest == -INFINITY ? 0.0f : largest;
        const float keep = GPU_PLANTED("prefill: stale sums") ? 1.0f : exp2f(m[h] - base);
        m[h] = largest;
        l[h] *= keep;
        GPU_UNROLL for (int n = 0; n < kKeys / 8; ++n) {
          GPU_UNROLL for (int e = 2 * h; e < 2 * h + 2; ++e) {
            s[n][e] = exp2f(s[n][e] - base);
            l[h] += s[n][e];
            if constexpr (S::kScales) {
              if (!GPU_PLANTED("prefill: forgets a value's scale")) s[n][e] *= v_scales[8 * n + e % 2];
            }
          }
        }
        GPU_UNROLL for (int n = 0; n < kDim / 8; ++n) {
          o[n][2 * h] *= keep;
          o[n][2 * h + 1] *= keep;
        }
      }

      GPU_UNROLL for (int step = 0; step < kKeys / 16; ++step) {
        // Scores of two neighbouring tiles of eight keys are where an operand of sixteen wants its weights.
        uint32_t a[4] = {pack_pair<T>(s[2 * step][0], s[2 * step][1]), pack_pair<T>(s[2 * step][2], s[2 * step][3]),
                         pack_pair<T>(s[2 * step + 1][0], s[2 * step + 1][1]),
                         pack_pair<T>(s[2 * step + 1][2], s[2 * step + 1][3])};
        if (GPU_PLANTED("prefill: wrong fragment")) {
          const uint32_t swapped = a[1];
          a[1] = a[2];
          a[2] = swapped;
        }
        GPU_UNROLL for (int n = 0; n < kDim / 16; ++n) {
          uint32_t b[4];
          load_matrix_transposed(b, values + S::place(16 * step + turn_lane % 16, 2 * n + turn_lane / 16));
          mma<T>(o[2 * n], a, {b[0], b[1]});
          mma<T>(o[2 * n + 1], a, {b[2], b[3]});
        }
      }
    }
    block_sync();  // before the next turn overwrites these keys and values, or the output the queries
  }

  // Through shared memory, where a warp's rows are its own, so that whole chunks are stored.
  GPU_UNROLL for (int h = 0; h < 2; ++h) {
    const float factor = args.cache.v_scale / quad_sum(l[h]);
    GPU_UNROLL for (int n = 0; n < kDim / 8; ++n) {
      T* to = shared.q + S::place(16 * warp + 8 * h + lane / 4, n) + 2 * quad;
      *reinterpret_cast<uint32_t*>(to) = pack_pair<T>(o[n][2 * h] * factor, o[n][2 * h + 1] * factor);
    }
  }
  warp_sync();
  for (int index = lane; index < 16 * kChunks; index += kWarp) {
    const int row = 16 * warp + index / kChunks, chunk = index % kChunks;
    if ((row >= rows.count && !GPU_PLANTED("prefill: past the rows")) || chunk * kVec >= head_dim) continue;
    store_vec(args.out + rows.at(row, args.out_stride, head_dim) + chunk * kVec,
              load_vec<Vec16>(shared.q + S::place(row, chunk)));
  }
}

template <class T, class C, int kDim>
void launch(const PrefillArgs<T, C>& args, Stream stream) {
  const int64_t group = args.heads / args.cache.kv_heads;
  const Dim3 grid = {static_cast<unsigned>(args.tokens * group / kRows + args.seqs),
                     static_cast<unsigned>(args.cache.kv_heads)};
  GPU_LAUNCH((prefill_kernel<T, C, kDim>), grid, kThreads, (Tile<T, C, kDim>::bytes()), stream, args);
}

}  // namespace

template <class T, class C>
void prefill_attention(const PrefillArgs<T, C>& args, Stream stream) {
  if (args.tokens == 0) return;
  const int dim = args.cache.head_dim;
  if (dim % 16 != 0 || dim <= 0 || dim > 256) {
    throw std::invalid_argument("prefill on a GPU: head_dim is " + std::to_string(dim) +
                                ", it can be a multiple of 16 of at most 256");
  }
  const int64_t kv_stride = args.block_tables == nullptr ? args.kv_stride : 0;
  if (!rows_are_vectors<T>(args.q, dim, args.q_stride) || !rows_are_vectors<T>(args.out, dim, args.out_stride) ||
      !rows_are_vectors<C>(args.cache.k, dim, kv_stride) || !rows_are_vectors<C>(args.cache.v, dim, kv_stride)) {
    throw std::invalid_argument("prefill on a GPU: a stride or an address is no multiple of 16 bytes");
  }
  if (std::is_same_v<C, int8_t> && args.block_tables == nullptr) {
    throw std::invalid_argument(
        "prefill on a GPU: keys and values outside a cache cannot be int8, they have no scales");
  }
  // A few sizes serve all: channels that are not there are zeros.
  if (dim <= 64) return launch<T, C, 64>(args, stream);
  if (dim <= 96) return launch<T, C, 96>(args, stream);
  if (dim <= 128) return launch<T, C, 128>(args, stream);
  launch<T, C, 256>(args, stream);
}

template void prefill_attention(const PrefillArgs<f16, f16>&, Stream);
template void prefill_attention(const PrefillArgs<bf16, bf16>&, Stream);
template void prefill_attention(const PrefillArgs<bf16, e4m3>&, Stream);
template void prefill_attention(const PrefillArgs<bf16, int8_t>&, Stream);

}  // namespace pf::gpu

#endif
