// Causal attention of all sequences of a step over the paged cache.
//
// Work is cut into tiles: up to kTileRows rows, that is some query tokens times the query heads of one KV head, so that
// a block of the cache is read once a tile. The tokens of a tile are of one sequence, or of several that begin with the
// same blocks: these are then read once for all of them (as in Hydragen: J. Juravsky et al., 2024).
//
// A context is cut into splits of kSplit positions at absolute places; a tile computes each split from a cleared state
// and merges it into the total in ascending order. Therefore it makes no difference to the bits whether one thread goes
// through all splits of a tile, as in prefill, or several threads take one each and the merge comes afterwards, as when
// a step decodes few long sequences, nor who shares a tile; the schedule is free to choose.
#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "attention_codes.h"
#include "attention_ops.h"
#include "attention_rows.h"

namespace pf::PF_ISA {
namespace {

constexpr int64_t kSplit = 512;
// Scores, queries and outputs of 24 rows stay below 20 KiB at head_dim 64, beside a chunk's K and V in the L1 cache.
constexpr int64_t kTileRows = 24;
// A unit is given to several threads when it alone exceeds this share of what one thread has to do.
constexpr int64_t kShare = 4;
// Sequences share tiles from so many common positions on.
constexpr int64_t kMinShared = 2 * kChunk;

static_assert(kSplit % kChunk == 0);

// One sequence's tokens in a tile.
struct Member {
  int64_t seq;
  int64_t first_token;  // index in the step
  int64_t tokens;
  int64_t row;  // its first in the tile
};

struct Tile {
  RowSet rows;
  int64_t num_rows, kv_head;
  const Member* members;
  int64_t num_members;
  int64_t shared;  // all members read the same blocks for positions below this, a multiple of kChunk, and see them all

  int64_t rows_of(int64_t i) const { return (i + 1 < num_members ? members[i + 1].row : num_rows) - members[i].row; }
  int64_t begin_of(int64_t i) const { return rows.begin(members[i].row); }
  int64_t end_of(int64_t i) const { return rows.end(members[i].row + rows_of(i) - 1); }
  int64_t end() const {
    int64_t last = 0;
    for (int64_t i = 0; i < num_members; ++i) last = end_of(i) > last ? end_of(i) : last;
    return last;
  }
  int64_t first_split() const { return begin_of(0) / kSplit; }
  int64_t num_splits() const { return (end() + kSplit - 1) / kSplit - first_split(); }
};

int64_t queries_of(const PfStep& step, int64_t s) { return step.query_start[s + 1] - step.query_start[s]; }

// Positions that two sequences read from the same blocks and that all their queries see, in whole chunks.
int64_t common_positions(const PfStep& step, int64_t block_size, int64_t a, int64_t b) {
  const int64_t end_a = step.seq_lens[a] - queries_of(step, a) + 1, end_b = step.seq_lens[b] - queries_of(step, b) + 1;
  const int64_t limit = (end_a < end_b ? end_a : end_b) / block_size;
  const int32_t* table_a = step.block_tables + a * step.max_blocks;
  const int32_t* table_b = step.block_tables + b * step.max_blocks;
  int64_t blocks = 0;
  while (blocks < limit && table_a[blocks] == table_b[blocks]) ++blocks;
  return blocks * block_size / kChunk * kChunk;
}

// How one step becomes work items. A unit is one sequence of any number of tiles, or a run of sequences that share one.
// Every thread computes the same schedule.
struct Schedule {
  int64_t tile_tokens;
  int64_t num_units = 0;
  int64_t* first_seq;      // [units + 1]
  int64_t* item_start;     // [units + 1]
  int64_t* partial_start;  // [units + 1] first partial state of a unit's first KV head; empty range: not split
  int64_t* shared;         // [units] Tile::shared

  static size_t bytes(int64_t seqs) { return 4 * (static_cast<size_t>(seqs) + 1) * sizeof(int64_t); }
  int64_t items() const { return item_start[num_units]; }
  int64_t partials() const { return partial_start[num_units]; }
  int64_t seqs(int64_t unit) const { return first_seq[unit + 1] - first_seq[unit]; }
  bool is_split(int64_t unit) const { return partial_start[unit + 1] > partial_start[unit]; }
  // The unit of an item.
  int64_t find(int64_t item) const {
    int64_t low = 0, high = num_units - 1;
    while (low < high) {
      const int64_t mid = (low + high + 1) / 2;
      if (item_start[mid] <= item) {
        low = mid;
      } else {
        high = mid - 1;
      }
    }
    return low;
  }
};

// Gathers sequences into units, as the step lists them.
void make_units(const PfStep& step, const AttentionParams& params, Schedule* schedule) {
  const int64_t block_size = cpu_kv(step.kv)->shape.block_size;
  schedule->num_units = 0;
  for (int64_t s = 0, next; s < step.num_seqs; s = next) {
    next = s + 1;
    int64_t tokens = queries_of(step, s), shared = 0;
    while (params.window == 0 && next < step.num_seqs) {
      tokens += queries_of(step, next);
      if (tokens > schedule->tile_tokens) break;
      const int64_t common = common_positions(step, block_size, s, next);
      if (common < kMinShared || 2 * common < shared) break;  // one that shares little would cost the others more
      shared = shared == 0 || common < shared ? common : shared;
      ++next;
    }
    schedule->first_seq[schedule->num_units] = s;
    schedule->shared[schedule->num_units++] = next - s > 1 ? shared : 0;
  }
  schedule->first_seq[schedule->num_units] = step.num_seqs;
}

Schedule make_schedule(const PfStep& step, const AttentionParams& params, int threads, int64_t* memory) {
  Schedule schedule;
  schedule.tile_tokens = params.group() < kTileRows ? kTileRows / params.group() : 1;
  schedule.first_seq = memory;
  schedule.item_start = memory + step.num_seqs + 1;
  schedule.partial_start = memory + 2 * (step.num_seqs + 1);
  schedule.shared = memory + 3 * (step.num_seqs + 1);
  make_units(step, params, &schedule);

  const auto num_tiles = [&](int64_t unit) {
    const int64_t queries = queries_of(step, schedule.first_seq[unit]);
    return schedule.seqs(unit) > 1 ? 1 : (queries + schedule.tile_tokens - 1) / schedule.tile_tokens;
  };
  // Positions that a tile of the unit reads.
  const auto tile_cost = [&](int64_t unit) {
    int64_t cost = schedule.shared[unit];
    for (int64_t s = schedule.first_seq[unit]; s < schedule.first_seq[unit + 1]; ++s) {
      const int64_t visible = params.window > 0 ? params.window + schedule.tile_tokens : step.seq_lens[s];
      cost += (visible < step.seq_lens[s] ? visible : step.seq_lens[s]) - schedule.shared[unit];
    }
    return cost;
  };
  const auto num_splits = [&](int64_t unit) {
    int64_t first = step.seq_lens[schedule.first_seq[unit]] - queries_of(step, schedule.first_seq[unit]) + 1, last = 0;
    first = params.window > 0 && first > params.window ? first - params.window : 0;
    for (int64_t s = schedule.first_seq[unit]; s < schedule.first_seq[unit + 1]; ++s) {
      last = step.seq_lens[s] > last ? step.seq_lens[s] : last;
    }
    return (last + kSplit - 1) / kSplit - first / kSplit;
  };

  int64_t total = 0;
  for (int64_t u = 0; u < schedule.num_units; ++u) total += tile_cost(u) * num_tiles(u) * params.kv_heads;
  schedule.item_start[0] = schedule.partial_start[0] = 0;
  for (int64_t u = 0; u < schedule.num_units; ++u) {
    const int64_t tiles = num_tiles(u);
    const bool split = threads > 1 && tiles == 1 && tile_cost(u) * threads * kShare > total;
    const int64_t splits = split ? num_splits(u) : 1;
    schedule.item_start[u + 1] = schedule.item_start[u] + tiles * params.kv_heads * splits;
    schedule.partial_start[u + 1] = schedule.partial_start[u] + (splits > 1 ? params.kv_heads * splits : 0);
  }
  return schedule;
}

// The memory in which one thread works on a tile.
struct TileMemory {
  Member* members;     // [max_rows]
  int64_t* ends;       // [max_rows]
  const float** from;  // [max_rows] queries of each row in the activations
  float* q_own;        // [max_rows][query_stride], by row blocks of each member
  float* q_all;        // likewise, by row blocks of the tile
};

Tile make_tile(const PfStep& step, const AttentionParams& params, const Schedule& schedule, int64_t unit,
               int64_t kv_head, int64_t index, const TileMemory& memory) {
  Tile tile;
  tile.rows = {memory.ends, params.window};
  tile.members = memory.members;
  tile.num_members = schedule.seqs(unit);
  tile.num_rows = 0;
  tile.kv_head = kv_head;
  tile.shared = schedule.shared[unit];
  for (int64_t i = 0; i < tile.num_members; ++i) {
    const int64_t s = schedule.first_seq[unit] + i, queries = queries_of(step, s);
    const int64_t begin = index * schedule.tile_tokens;
    const int64_t tokens = queries - begin < schedule.tile_tokens ? queries - begin : schedule.tile_tokens;
    memory.members[i] = {s, step.query_start[s] + begin, tokens, tile.num_rows};
    for (int64_t r = 0; r < tokens * params.group(); ++r) {
      memory.ends[tile.num_rows++] = step.seq_lens[s] - queries + begin + r / params.group() + 1;
    }
  }
  return tile;
}

// Calls fn(first row, number of rows) for the row blocks of `rows` rows from `row` on.
template <class Fn>
PF_INLINE void each_row_block(int64_t row, int64_t rows, Fn&& fn) {
  for (int64_t end = row + rows; row < end; row += kRowBlock) {
    fn(row, end - row < kRowBlock ? end - row : kRowBlock);
  }
}

template <class T>
void load_tile(const PfCall& call, const AttentionParams& params, const Tile& tile, const TileMemory& memory) {
  const int64_t stride = query_stride(params.head_dim);
  const auto load = [&](float* q, int64_t row, int64_t count) {
    load_queries<T>(memory.from + row, count, params.head_dim, params.scale, q + row * stride);
  };
  for (int64_t i = 0; i < tile.num_members; ++i) {
    const Member& member = tile.members[i];
    for (int64_t r = 0; r < tile.rows_of(i); ++r) {
      const int64_t head = tile.kv_head * params.group() + r % params.group();
      memory.from[member.row + r] =
          input_row(call, 0, member.first_token + r / params.group()) + head * params.head_dim;
    }
    each_row_block(member.row, tile.rows_of(i), [&](int64_t row, int64_t count) { load(memory.q_own, row, count); });
  }
  if (tile.shared == 0) return;
  each_row_block(0, tile.num_rows, [&](int64_t row, int64_t count) { load(memory.q_all, row, count); });
}

// The chunk that begins at position `base`, of which [begin, end) is read.
template <class T>
Chunk<T> make_chunk(const PfStep& step, const AttentionParams& params, int64_t seq, int64_t kv_head, int64_t base,
                    int64_t begin, int64_t end) {
  const CpuKvCache& cache = *cpu_kv(step.kv);
  const int64_t block_size = cache.shape.block_size;
  const int32_t* table = step.block_tables + seq * step.max_blocks;
  constexpr bool kCodes = Codes<T>::used;
  const int64_t channels = kCodes ? padded(params.head_dim) : params.head_dim;
  Chunk<T> chunk;
  chunk.base = base;
  chunk.first = static_cast<int>(base < begin ? (begin - base) / kSub : 0);
  chunk.last = static_cast<int>(end - base < kChunk ? (end - base + kSub - 1) / kSub : kSubs);
  chunk.k_stride = kCodes ? 2 * block_size : block_size;
  chunk.v_stride = kCodes ? 2 * channels : channels;
  chunk.k_scale_stride = block_size;
  chunk.to_values = static_cast<int64_t>(cache.values_at / sizeof(T));
  for (int j = chunk.first; j < chunk.last; ++j) {
    const int64_t position = base + j * kSub, offset = position % block_size;
    const int32_t block = table[position / block_size];
    const T* keys = reinterpret_cast<const T*>(cache.keys(block, params.layer, kv_head));
    const T* values = reinterpret_cast<const T*>(cache.values(block, params.layer, kv_head));
    chunk.k[j] = keys + (kCodes ? 2 * offset : offset);
    chunk.v[j] = values + offset * channels;
    const int64_t ahead = (position + kChunk) / block_size;
    chunk.next_k[j] = ahead * block_size < step.seq_lens[seq]
                          ? reinterpret_cast<const T*>(cache.keys(table[ahead], params.layer, kv_head))
                          : keys;
    if (kCodes) {
      using Scale = typename Codes<T>::Scale;
      chunk.k_scale[j] = reinterpret_cast<const Scale*>(cache.key_scales(block, params.layer, kv_head)) + offset;
      chunk.v_scale[j] = reinterpret_cast<const Scale*>(cache.value_scales(block, params.layer, kv_head)) + offset;
    }
  }
  return chunk;
}

// The state of a tile over the positions of one split.
template <class T>
void attend_split(const PfStep& step, const AttentionParams& params, const Tile& tile, int64_t split,
                  const TileMemory& memory, const RowState& state) {
  const int64_t first = split * kSplit, last = first + kSplit, stride = query_stride(params.head_dim);
  clear_state(state, tile.num_rows);
  const auto attend = [&](const Chunk<T>& chunk, const float* q, int64_t first_row, int64_t rows) {
    each_row_block(first_row, rows, [&](int64_t row, int64_t count) {
      attend_rows_for<T>(count)(tile.rows.from(row), q + row * stride, chunk, params.head_dim, params.softcap,
                                state.from(row));
    });
  };
  for (int64_t base = first; base < last && base < tile.shared; base += kChunk) {
    attend(make_chunk<T>(step, params, tile.members[0].seq, tile.kv_head, base, base, base + kChunk), memory.q_all, 0,
           tile.num_rows);
  }
  for (int64_t i = 0; i < tile.num_members; ++i) {
    const Member& member = tile.members[i];
    const int64_t unshared = tile.begin_of(i) > tile.shared ? tile.begin_of(i) : tile.shared;
    const int64_t begin = unshared > first ? unshared : first, end = tile.end_of(i) < last ? tile.end_of(i) : last;
    for (int64_t base = begin / kChunk * kChunk; base < end; base += kChunk) {
      attend(make_chunk<T>(step, params, member.seq, tile.kv_head, base, begin, end), memory.q_own, member.row,
             tile.rows_of(i));
    }
  }
}

void write_rows(const PfCall& call, const AttentionParams& params, const Tile& tile, const RowState& state) {
  for (int64_t i = 0; i < tile.num_members; ++i) {
    for (int64_t r = 0; r < tile.rows_of(i); ++r) {
      const int64_t head = tile.kv_head * params.group() + r % params.group();
      float* to = output_row(call, 0, tile.members[i].first_token + r / params.group()) + head * params.head_dim;
      const RowState own = state.from(tile.members[i].row + r);
      const F16x sum = set1(*own.l);
      for (int64_t c = 0; c < params.head_dim; c += 16) {
        const F16x y = add(div(load(own.o + c), sum), zero());  // -0 + 0 = 0
        if (params.head_dim - c >= 16) {
          store(to + c, y);
        } else {
          store_partial(to + c, y, params.head_dim - c);
        }
      }
    }
  }
}

template <class T>
void attention_of(const PfCall& call, const PfStep& step, Worker& worker) {
  const AttentionParams params(call);
  const int64_t stride = (params.head_dim + 15) / 16 * 16;
  const int64_t max_rows = params.group() < kTileRows ? kTileRows : params.group();
  const int64_t state_floats = max_rows * (stride + 2), query_floats = max_rows * query_stride(params.head_dim);
  const auto state_at = [&](float* p) {
    return RowState{p + max_rows * stride, p + max_rows * (stride + 1), p, stride};
  };

  // Scratch: two states, the queries twice, what a tile consists of, the schedule.
  const size_t float_bytes = static_cast<size_t>(2 * (state_floats + query_floats)) * sizeof(float);
  const size_t row_bytes = sizeof(Member) + sizeof(int64_t) + sizeof(float*);
  const size_t schedule_at = float_bytes + static_cast<size_t>(max_rows) * row_bytes;
  char* scratch = static_cast<char*>(worker.scratch(schedule_at + Schedule::bytes(step.num_seqs)));
  float* floats = reinterpret_cast<float*>(scratch);
  const RowState total = state_at(floats), part = state_at(floats + state_floats);
  TileMemory memory;
  memory.q_own = floats + 2 * state_floats;
  memory.q_all = memory.q_own + query_floats;
  memory.members = reinterpret_cast<Member*>(scratch + float_bytes);
  memory.ends = reinterpret_cast<int64_t*>(memory.members + max_rows);
  memory.from = reinterpret_cast<const float**>(memory.ends + max_rows);
  const Schedule schedule =
      make_schedule(step, params, worker.num_threads(), reinterpret_cast<int64_t*>(scratch + schedule_at));

  const int64_t partials = schedule.partials();
  float* shared =
      partials == 0 ? nullptr
                    : static_cast<float*>(worker.shared(static_cast<size_t>(partials * state_floats) * sizeof(float)));

  worker.for_each(schedule.items(), [&](int64_t item) {
    const int64_t unit = schedule.find(item), local = item - schedule.item_start[unit];
    const int64_t per_head = (schedule.item_start[unit + 1] - schedule.item_start[unit]) / params.kv_heads;
    const int64_t kv_head = local / per_head, index = local % per_head;
    const bool split = schedule.is_split(unit);
    const Tile tile = make_tile(step, params, schedule, unit, kv_head, split ? 0 : index, memory);
    load_tile<T>(call, params, tile, memory);
    if (split) {
      const RowState state = state_at(shared + (schedule.partial_start[unit] + local) * state_floats);
      attend_split<T>(step, params, tile, tile.first_split() + index, memory, state);
      return;
    }
    clear_state(total, tile.num_rows);
    for (int64_t i = 0; i < tile.num_splits(); ++i) {
      attend_split<T>(step, params, tile, tile.first_split() + i, memory, part);
      merge_state(total, part, tile.num_rows);
    }
    write_rows(call, params, tile, total);
  });
  if (partials == 0) return;

  worker.finish();
  worker.for_each(schedule.num_units * params.kv_heads, [&](int64_t i) {
    const int64_t unit = i / params.kv_heads, kv_head = i % params.kv_heads;
    if (!schedule.is_split(unit)) return;
    const Tile tile = make_tile(step, params, schedule, unit, kv_head, 0, memory);
    const int64_t splits = tile.num_splits();
    clear_state(total, tile.num_rows);
    for (int64_t k = 0; k < splits; ++k) {
      merge_state(total, state_at(shared + (schedule.partial_start[unit] + kv_head * splits + k) * state_floats),
                  tile.num_rows);
    }
    write_rows(call, params, tile, total);
  });
}

}  // namespace

void attention(const PfCall& call, const PfStep& step, Worker& worker) {
  switch (cpu_kv(step.kv)->shape.dtype) {
    case PF_F32:
      return attention_of<float>(call, step, worker);
    case PF_F16:
      return attention_of<uint16_t>(call, step, worker);
    case PF_I16:
      return attention_of<int16_t>(call, step, worker);
    default:
      return attention_of<int8_t>(call, step, worker);
  }
}

const OpTable& attention_ops() {
  static const OpEntry entries[] = {
      {"attention", attention}, {"rope_angles", rope_angles}, {"rope", rope}, {"cache_write", cache_write}};
  static const OpTable table = {entries, 4};
  return table;
}

}  // namespace pf::PF_ISA
