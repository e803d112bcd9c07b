// Causal attention of all sequences of a step over the paged cache.
//
// Work is cut into tiles: up to kTileRows rows, that is some query tokens times the query heads of one KV head, so that
// a block of the cache is read once a tile. A context is cut into splits of kSplit positions at absolute places; a tile
// computes each split from a cleared state and merges it into the total in ascending order. Therefore it makes no
// difference to the bits whether one thread goes through all splits of a tile, as in prefill, or several threads take
// one each and the merge comes afterwards, as when a step decodes few long sequences; the schedule is free to
// choose.
#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "attention_ops.h"
#include "attention_rows.h"

namespace pf::PF_ISA {
namespace {

constexpr int64_t kSplit = 512;
// Scores, queries and outputs of 24 rows stay below 20 KiB at head_dim 64, beside a chunk's K and V in the L1 cache.
constexpr int64_t kTileRows = 24;
// A sequence is given to several threads when it alone exceeds this share of what one thread has to do.
constexpr int64_t kShare = 4;

static_assert(kSplit % kChunk == 0);

struct Tile {
  RowSet rows;
  int64_t num_rows;
  int64_t seq, kv_head;
  int64_t first_token;  // index in the step
  int64_t begin() const { return rows.begin(0); }
  int64_t end() const { return rows.end(num_rows - 1); }
};

// How one step's sequences become work items. Every thread computes the same one.
struct Schedule {
  int64_t tile_tokens;
  int64_t* item_start;     // [S + 1]
  int64_t* partial_start;  // [S + 1] first partial state of a sequence's first KV head; empty range: not split
  int64_t num_seqs;

  int64_t items() const { return item_start[num_seqs]; }
  int64_t partials() const { return partial_start[num_seqs]; }
  bool is_split(int64_t s) const { return partial_start[s + 1] > partial_start[s]; }
  // Index of the last entry of `starts` that is <= item.
  int64_t find(const int64_t* starts, int64_t item) const {
    int64_t low = 0, high = num_seqs - 1;
    while (low < high) {
      const int64_t mid = (low + high + 1) / 2;
      if (starts[mid] <= item) {
        low = mid;
      } else {
        high = mid - 1;
      }
    }
    return low;
  }
};

int64_t num_tiles(const PfStep& step, int64_t s, int64_t tile_tokens) {
  return (step.query_start[s + 1] - step.query_start[s] + tile_tokens - 1) / tile_tokens;
}

Tile make_tile(const PfStep& step, const AttentionParams& params, const Schedule& schedule, int64_t s, int64_t kv_head,
               int64_t index) {
  const int64_t queries = step.query_start[s + 1] - step.query_start[s];
  const int64_t begin = index * schedule.tile_tokens;
  const int64_t count = queries - begin < schedule.tile_tokens ? queries - begin : schedule.tile_tokens;
  Tile tile;
  tile.rows = {step.seq_lens[s] - queries + begin, params.group(), params.window};
  tile.num_rows = count * params.group();
  tile.seq = s;
  tile.kv_head = kv_head;
  tile.first_token = step.query_start[s] + begin;
  return tile;
}

int64_t first_split(const Tile& tile) { return tile.begin() / kSplit; }
int64_t num_splits(const Tile& tile) { return (tile.end() + kSplit - 1) / kSplit - first_split(tile); }

Schedule make_schedule(const PfStep& step, const AttentionParams& params, int threads, int64_t* memory) {
  Schedule schedule;
  schedule.tile_tokens = params.group() < kTileRows ? kTileRows / params.group() : 1;
  schedule.num_seqs = step.num_seqs;
  schedule.item_start = memory;
  schedule.partial_start = memory + step.num_seqs + 1;

  const auto tile_cost = [&](int64_t s) {
    const int64_t visible = params.window > 0 ? params.window + schedule.tile_tokens : step.seq_lens[s];
    return visible < step.seq_lens[s] ? visible : step.seq_lens[s];
  };
  int64_t total = 0;
  for (int64_t s = 0; s < step.num_seqs; ++s) {
    total += tile_cost(s) * num_tiles(step, s, schedule.tile_tokens) * params.kv_heads;
  }
  schedule.item_start[0] = schedule.partial_start[0] = 0;
  for (int64_t s = 0; s < step.num_seqs; ++s) {
    const int64_t tiles = num_tiles(step, s, schedule.tile_tokens);
    int64_t splits = 1;
    if (threads > 1 && tiles == 1 && tile_cost(s) * threads * kShare > total) {
      splits = num_splits(make_tile(step, params, schedule, s, 0, 0));
    }
    schedule.item_start[s + 1] = schedule.item_start[s] + tiles * params.kv_heads * splits;
    schedule.partial_start[s + 1] = schedule.partial_start[s] + (splits > 1 ? params.kv_heads * splits : 0);
  }
  return schedule;
}

// Queries of a tile, scaled, as one [head_dim][R] matrix a row block.
void load_queries(const PfCall& call, const AttentionParams& params, const Tile& tile, float* q) {
  for (int64_t row = 0; row < tile.num_rows; row += kRowBlock) {
    const int64_t count = tile.num_rows - row < kRowBlock ? tile.num_rows - row : kRowBlock;
    for (int64_t r = 0; r < count; ++r) {
      const int64_t token = tile.first_token + (row + r) / params.group();
      const int64_t head = tile.kv_head * params.group() + (row + r) % params.group();
      const float* from = input_row(call, 0, token) + head * params.head_dim;
      for (int64_t d = 0; d < params.head_dim; ++d) q[row * params.head_dim + d * count + r] = from[d] * params.scale;
    }
  }
}

// The state of a tile over the positions of one split.
template <class T>
void attend_split(const PfStep& step, const AttentionParams& params, const Tile& tile, int64_t split, const float* q,
                  const RowState& state) {
  const CpuKvCache& cache = *cpu_kv(step.kv);
  const int64_t block_size = cache.shape.block_size, dim = params.head_dim;
  const int32_t* table = step.block_tables + tile.seq * step.max_blocks;
  const size_t layer = static_cast<size_t>(params.layer) * cache.layer_bytes;
  const int64_t begin = tile.begin() > split * kSplit ? tile.begin() : split * kSplit;
  const int64_t end = tile.end() < (split + 1) * kSplit ? tile.end() : (split + 1) * kSplit;
  clear_state(state, tile.num_rows);
  for (int64_t base = begin / kChunk * kChunk; base < end; base += kChunk) {
    Chunk<T> chunk;
    chunk.base = base;
    chunk.k_stride = block_size;
    chunk.first = static_cast<int>(base < begin ? (begin - base) / kSub : 0);
    chunk.last = static_cast<int>(end - base < kChunk ? (end - base + kSub - 1) / kSub : kSubs);
    for (int j = chunk.first; j < chunk.last; ++j) {
      const int64_t position = base + j * kSub, offset = position % block_size;
      const size_t block = layer + static_cast<size_t>(table[position / block_size]) * cache.block_bytes;
      chunk.k[j] = reinterpret_cast<const T*>(cache.k + block) + tile.kv_head * dim * block_size + offset;
      chunk.v[j] = reinterpret_cast<const T*>(cache.v + block) + (tile.kv_head * block_size + offset) * dim;
    }
    for (int64_t row = 0; row < tile.num_rows; row += kRowBlock) {
      const int64_t count = tile.num_rows - row < kRowBlock ? tile.num_rows - row : kRowBlock;
      attend_rows_for<T>(count)(tile.rows, row, q + row * dim, chunk, dim, params.softcap, state);
    }
  }
}

void write_rows(const PfCall& call, const AttentionParams& params, const Tile& tile, const RowState& state) {
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    const int64_t head = tile.kv_head * params.group() + r % params.group();
    float* to = output_row(call, 0, tile.first_token + r / params.group()) + head * params.head_dim;
    const F16x sum = set1(state.l[r]);
    for (int64_t c = 0; c < params.head_dim; c += 16) {
      const F16x y = add(div(load(state.o + r * state.stride + c), sum), zero());  // -0 + 0 = 0
      if (params.head_dim - c >= 16) {
        store(to + c, y);
      } else {
        store_partial(to + c, y, params.head_dim - c);
      }
    }
  }
}

template <class T>
void attention_of(const PfCall& call, const PfStep& step, Worker& worker) {
  const AttentionParams params(call);
  const int64_t stride = (params.head_dim + 15) / 16 * 16;
  const int64_t max_rows = params.group() < kTileRows ? kTileRows : params.group();
  const int64_t state_floats = max_rows * (stride + 2);
  const auto state_at = [&](float* p) {
    return RowState{p + max_rows * stride, p + max_rows * (stride + 1), p, stride};
  };

  // Scratch: two states, the queries, the schedule.
  const size_t float_bytes = static_cast<size_t>(2 * state_floats + max_rows * params.head_dim) * sizeof(float);
  const size_t schedule_at = (float_bytes + 63) / 64 * 64;
  char* scratch =
      static_cast<char*>(worker.scratch(schedule_at + 2 * (static_cast<size_t>(step.num_seqs) + 1) * sizeof(int64_t)));
  const RowState total = state_at(reinterpret_cast<float*>(scratch));
  const RowState part = state_at(reinterpret_cast<float*>(scratch) + state_floats);
  float* q = reinterpret_cast<float*>(scratch) + 2 * state_floats;
  const Schedule schedule =
      make_schedule(step, params, worker.num_threads(), reinterpret_cast<int64_t*>(scratch + schedule_at));

  const int64_t partials = schedule.partials();
  float* shared =
      partials == 0 ? nullptr
                    : static_cast<float*>(worker.shared(static_cast<size_t>(partials * state_floats) * sizeof(float)));

  worker.for_each(schedule.items(), [&](int64_t item) {
    const int64_t s = schedule.find(schedule.item_start, item);
    const int64_t local = item - schedule.item_start[s];
    const int64_t per_head = (schedule.item_start[s + 1] - schedule.item_start[s]) / params.kv_heads;
    const int64_t kv_head = local / per_head, index = local % per_head;
    const bool split = schedule.is_split(s);
    const Tile tile = make_tile(step, params, schedule, s, kv_head, split ? 0 : index);
    load_queries(call, params, tile, q);
    if (split) {
      const RowState state = state_at(shared + (schedule.partial_start[s] + local) * state_floats);
      attend_split<T>(step, params, tile, first_split(tile) + index, q, state);
      return;
    }
    clear_state(total, tile.num_rows);
    for (int64_t i = 0; i < num_splits(tile); ++i) {
      attend_split<T>(step, params, tile, first_split(tile) + i, q, part);
      merge_state(total, part, tile.num_rows);
    }
    write_rows(call, params, tile, total);
  });
  if (partials == 0) return;

  worker.finish();
  worker.for_each(step.num_seqs * params.kv_heads, [&](int64_t i) {
    const int64_t s = i / params.kv_heads, kv_head = i % params.kv_heads;
    if (!schedule.is_split(s)) return;
    const Tile tile = make_tile(step, params, schedule, s, kv_head, 0);
    const int64_t splits = num_splits(tile);
    clear_state(total, tile.num_rows);
    for (int64_t k = 0; k < splits; ++k) {
      merge_state(total, state_at(shared + (schedule.partial_start[s] + kv_head * splits + k) * state_floats),
                  tile.num_rows);
    }
    write_rows(call, params, tile, total);
  });
}

}  // namespace

void attention(const PfCall& call, const PfStep& step, Worker& worker) {
  if (cpu_kv(step.kv)->shape.dtype == PF_F16) {
    attention_of<uint16_t>(call, step, worker);
  } else {
    attention_of<float>(call, step, worker);
  }
}

const OpTable& attention_ops() {
  static const OpEntry entries[] = {
      {"attention", attention}, {"rope_angles", rope_angles}, {"rope", rope}, {"cache_write", cache_write}};
  static const OpTable table = {entries, 4};
  return table;
}

}  // namespace pf::PF_ISA
