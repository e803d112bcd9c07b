// The block pool on a GPU: sequences get cache blocks, share and return them without a word from the host, so that
// several steps can run from one captured graph. The host's pool (core/block_pool) stays the owner: it lends a device
// the blocks whose bits are set in `free`.
//
// What comes out does not depend on the schedule: blocks are given to sequences in ascending order, the lowest free
// ones first, and what is returned is a bit that is set, whoever comes first.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

struct BlockPool {
  uint32_t* free;  // [(num_blocks + 31) / 32], a bit a block, the first in the lowest
  int32_t* refs;   // [num_blocks], how many tables hold a block
  int num_blocks, block_size;
};

// Tables of sequences. Sequence s holds the first (lens[s] + block_size - 1) / block_size blocks of its row.
struct BlockTables {
  int32_t* tables;  // [seqs][max_blocks]
  int32_t* lens;    // [seqs], tokens
  int seqs, max_blocks;
};

struct ExtendArgs {
  BlockPool pool;
  BlockTables tables;
  const int32_t* query_start;  // [seqs + 1]; sequence s gets query_start[s + 1] - query_start[s] tokens more
  int32_t* slots;              // [tokens], block * block_size + place of each new token; -1 where refused
  int32_t* granted;            // [seqs], 1, or 0 where blocks were lacking: then nothing of the sequence has changed
  int32_t* copy_from;          // [seqs], what copy_blocks() has to copy before the step writes; -1 for nothing
  int32_t* copy_to;
  int32_t* scratch;  // [seqs + num_blocks], uninitialized
  int tokens;
};

// Appends room for tokens to every sequence. A last block that is shared and not full is exchanged for a new one
// (copy on write). Sequences are served in ascending order; the first one that lacks blocks, and all behind it that
// need any, are refused, as is one that would outgrow its table.
void extend_tables(const ExtendArgs& args, Stream stream);

// Row children[i] becomes what row parents[i] is, and shares its blocks, for i < count. No child is a parent or occurs
// twice; its old row must have been released.
void fork_tables(const BlockPool& pool, const BlockTables& tables, const int32_t* parents, const int32_t* children,
                 int count, Stream stream);

// Sequences rows[i], each once, end: blocks that no other table holds become free, and lens 0.
void release_tables(const BlockPool& pool, const BlockTables& tables, const int32_t* rows, int count, Stream stream);

struct TransferArgs {
  void* const* layers;    // [2 * num_layers]: keys, then values of each layer (KvLayer::k, ::v)
  const int32_t* blocks;  // [count]
  void* buffer;           // [count][2 * num_layers][block_bytes]; may be pinned memory of the host
  int64_t block_bytes;    // of one layer's keys; a multiple of 16
  int count, num_layers;
};

// All layers of some blocks, as one piece of memory for a transfer or to be swapped out; and back.
void gather_blocks(const TransferArgs& args, Stream stream);
void scatter_blocks(const TransferArgs& args, Stream stream);

}  // namespace pf::gpu
