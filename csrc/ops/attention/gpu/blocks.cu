// Tables grow in one block of threads: how much each sequence needs is summed over the sequences, how much is free over
// the words of the pool, so that every sequence knows which of the free blocks are its own without asking another.
#include "../../../gpu/block_reduce.h"
#include "../../../gpu/segments.h"
#include "blocks.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

GPU_DEVICE int blocks_of(const BlockPool& pool, int tokens) { return (tokens + pool.block_size - 1) / pool.block_size; }

// Gives up one hold of a block; the last one frees it.
GPU_DEVICE void release_block(const BlockPool& pool, int block) {
  if (atomic_add(&pool.refs[block], -1) != 1 && !GPU_PLANTED("blocks: frees what is shared")) return;
  atomic_or(&pool.free[block / 32], 1u << block % 32);
}

// Blocks that a sequence needs; copy_from[s] becomes the one it has to exchange, or -1. Negative: its table is too
// short.
GPU_DEVICE int need_of(const ExtendArgs& args, int s) {
  args.copy_from[s] = -1;
  const int len = args.tables.lens[s], more = args.query_start[s + 1] - args.query_start[s];
  const int held = blocks_of(args.pool, len), wanted = blocks_of(args.pool, len + more);
  if (more == 0) return 0;
  if (wanted > args.tables.max_blocks) return -1;
  if (len % args.pool.block_size == 0) return wanted - held;
  const int last = args.tables.tables[int64_t{s} * args.tables.max_blocks + held - 1];
  if (args.pool.refs[last] == 1) return wanted - held;
  args.copy_from[s] = last;
  return wanted - held + 1;
}

GPU_KERNEL(kThreads)
void extend_tables_kernel(ExtendArgs args) {
  const BlockPool& pool = args.pool;
  int32_t *first = args.scratch, *given = args.scratch + args.tables.seqs;
  const int thread = static_cast<int>(thread_x()), words = (pool.num_blocks + 31) / 32;
  int available = 0, taken = 0;
  for (int w = thread; w < words; w += kThreads) available += popcount(pool.free[w]);
  block_scan<kThreads>(available, available);

  int before = 0;
  for (int base = 0; base < args.tables.seqs; base += kThreads) {
    const int s = base + thread, need = s < args.tables.seqs ? need_of(args, s) : 0;
    int total;
    const int after = before + block_scan<kThreads>(need > 0 ? need : 0, total);
    if (s < args.tables.seqs) {
      const bool granted = need == 0 || (need > 0 && after <= available);
      args.granted[s] = granted ? 1 : 0;
      first[s] = after - need;
      if (granted) taken += need;
    }
    before += total;
  }
  block_scan<kThreads>(taken, taken);

  before = 0;
  for (int base = 0; base < words && before < taken; base += kThreads) {
    const int w = base + thread;
    uint32_t word = w < words ? pool.free[w] : 0;
    int total;
    const int count = popcount(word);
    int rank = before + block_scan<kThreads>(count, total) - count;
    if (word != 0 && rank < taken) {
      for (; word != 0 && rank < taken; ++rank) {
        given[rank] = 32 * w + popcount((word & (0u - word)) - 1);
        word &= word - 1;
      }
      if (!GPU_PLANTED("blocks: stays free")) pool.free[w] = word;
    }
    before += total;
  }
  block_sync();

  // A warp a sequence.
  for (int s = warp_id(); s < args.tables.seqs; s += kWarps) {
    int32_t* table = args.tables.tables + int64_t{s} * args.tables.max_blocks;
    const bool granted = args.granted[s] != 0;
    const int from = granted ? args.copy_from[s] : -1, len = args.tables.lens[s];
    const int more = args.query_start[s + 1] - args.query_start[s];
    const int held = blocks_of(pool, len) - (from >= 0 ? 1 : 0), wanted = blocks_of(pool, len + more);
    for (int i = held + lane_id(); granted && i < wanted; i += kWarp) {
      const int block = given[first[s] + i - held];
      table[i] = block;
      pool.refs[block] = 1;
    }
    warp_sync();  // all lanes have read what changes now
    if (lane_id() != 0) continue;
    args.copy_from[s] = from;
    args.copy_to[s] = from >= 0 ? given[first[s]] : -1;
    if (from >= 0) release_block(pool, from);
    if (granted) args.tables.lens[s] = len + more;
  }
}

GPU_KERNEL(kThreads)
void slots_kernel(ExtendArgs args) {
  const int token = static_cast<int>(block_x() * kThreads + thread_x());
  if (token >= args.tokens && !GPU_PLANTED("blocks: slots past the tokens")) return;
  const int seq = piece_of(args.tables.seqs, token, [&](int s) { return args.query_start[s]; });
  const int position = args.tables.lens[seq] - args.query_start[seq + 1] + token, size = args.pool.block_size;
  args.slots[token] =
      args.granted[seq] == 0
          ? -1
          : args.tables.tables[int64_t{seq} * args.tables.max_blocks + position / size] * size + position % size;
}

// One block a child.
GPU_KERNEL(kThreads)
void fork_tables_kernel(BlockPool pool, BlockTables tables, const int32_t* parents, const int32_t* children) {
  const int64_t parent = parents[block_x()], child = children[block_x()];
  const int len = tables.lens[parent];
  for (int i = static_cast<int>(thread_x()); i < blocks_of(pool, len); i += kThreads) {
    const int block = tables.tables[parent * tables.max_blocks + i];
    tables.tables[child * tables.max_blocks + i] = block;
    atomic_add(&pool.refs[block], 1);
  }
  if (thread_x() == 0) tables.lens[child] = len;
}

// One block a sequence.
GPU_KERNEL(kThreads)
void release_tables_kernel(BlockPool pool, BlockTables tables, const int32_t* rows) {
  const int64_t row = rows[block_x()];
  const int held = blocks_of(pool, tables.lens[row]);
  for (int i = static_cast<int>(thread_x()); i < held; i += kThreads) {
    release_block(pool, tables.tables[row * tables.max_blocks + i]);
  }
  block_sync();  // all have read the length
  if (thread_x() == 0) tables.lens[row] = 0;
}

// Grid: slices of a block, keys and values of all layers, blocks.
GPU_KERNEL(kThreads)
void transfer_blocks_kernel(TransferArgs args, bool gather) {
  const int64_t at = (int64_t{block_x()} * kThreads + thread_x()) * 16;
  if (at >= args.block_bytes && !GPU_PLANTED("blocks: transfer past the block")) return;
  char* cached = static_cast<char*>(args.layers[block_y()]) + args.blocks[block_z()] * args.block_bytes + at;
  char* packed =
      static_cast<char*>(args.buffer) + (int64_t{block_z()} * 2 * args.num_layers + block_y()) * args.block_bytes + at;
  store_vec(gather ? packed : cached, load_vec<Vec16>(gather ? cached : packed));
}

void transfer(const TransferArgs& args, bool gather, Stream stream) {
  if (args.count == 0) return;
  const Dim3 grid = {static_cast<unsigned>((args.block_bytes / 16 + kThreads - 1) / kThreads),
                     static_cast<unsigned>(2 * args.num_layers), static_cast<unsigned>(args.count)};
  GPU_LAUNCH(transfer_blocks_kernel, grid, kThreads, 0, stream, args, gather);
}

}  // namespace

void extend_tables(const ExtendArgs& args, Stream stream) {
  if (args.tables.seqs == 0) return;
  GPU_LAUNCH(extend_tables_kernel, Dim3{1}, kThreads, 0, stream, args);
  if (args.tokens == 0) return;
  GPU_LAUNCH(slots_kernel, Dim3{static_cast<unsigned>((args.tokens + kThreads - 1) / kThreads)}, kThreads, 0, stream,
             args);
}

void fork_tables(const BlockPool& pool, const BlockTables& tables, const int32_t* parents, const int32_t* children,
                 int count, Stream stream) {
  if (count == 0) return;
  GPU_LAUNCH(fork_tables_kernel, Dim3{static_cast<unsigned>(count)}, kThreads, 0, stream, pool, tables, parents,
             children);
}

void release_tables(const BlockPool& pool, const BlockTables& tables, const int32_t* rows, int count, Stream stream) {
  if (count == 0) return;
  GPU_LAUNCH(release_tables_kernel, Dim3{static_cast<unsigned>(count)}, kThreads, 0, stream, pool, tables, rows);
}

void gather_blocks(const TransferArgs& args, Stream stream) { transfer(args, true, stream); }
void scatter_blocks(const TransferArgs& args, Stream stream) { transfer(args, false, stream); }

}  // namespace pf::gpu
