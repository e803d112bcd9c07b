// What one block does for an all-reduce; apart from its kernel, so that a test can do it again and again in one launch.
//
// Blocks with the same index meet, one of each rank: each writes its turn into a word of every other and waits until
// all wrote theirs. Turns only grow, so a word may already hold the next one. A block reads of other ranks only what
// blocks of its own index write, or what was written before the launch: hence no meeting of whole grids.
#pragma once
#include "../../../gpu/values.h"
#include "all_reduce.h"

namespace pf::gpu {

constexpr int kAllReduceThreads = 256;

// All that this block has done is done for those that it meets, and theirs for it.
template <class T>
GPU_DEVICE void meet(const AllReduceArgs<T>& args, int rank, uint32_t turn) {
  const int peer = static_cast<int>(thread_x()), row = static_cast<int>(block_x()) * kMaxRanks;
  if (peer < args.ranks) {
    uint32_t* theirs = args.flags[peer] + row + rank;
    uint32_t* mine = args.flags[rank] + row + peer;
    if (GPU_PLANTED("all_reduce: no release")) {
      atomic_exchange(theirs, turn);
    } else {
      store_release(theirs, turn);
    }
    if (GPU_PLANTED("all_reduce: no acquire")) {
      while (static_cast<int32_t>(atomic_or(mine, 0u) - turn) < 0) spin();
    } else if (!GPU_PLANTED("all_reduce: no wait")) {
      while (static_cast<int32_t>(load_acquire(mine) - turn) < 0) spin();
    }
  }
  block_sync();
}

// The sum of one vector over the ranks, in their order.
template <class T>
GPU_DEVICE void sum_vector(const AllReduceArgs<T>& args, int64_t at, T* to) {
  float sum[kPerVec<T>] = {};
  GPU_UNROLL for (int r = 0; r < kMaxRanks; ++r) {
    if (r >= args.ranks) break;
    float v[kPerVec<T>];
    load_values(args.in[r] + at, v);
    GPU_UNROLL for (int i = 0; i < kPerVec<T>; ++i) sum[i] += v[i];
  }
  store_values(to + at, sum);
}

template <class T>
GPU_DEVICE void all_reduce_block(const AllReduceArgs<T>& args, AllReduce kind, int rank) {
  constexpr int kVec = kPerVec<T>;
  uint32_t* turns = args.flags[rank] + kAllReduceBlocks * kMaxRanks + block_x();
  const uint32_t turn = *turns;
  const int64_t vectors = args.n / kVec, first = int64_t{block_x()} * kAllReduceThreads + thread_x();
  const int64_t step = int64_t{grid_x()} * kAllReduceThreads;
  meet(args, rank, turn + 1);  // inputs are there
  if (kind == AllReduce::kOneShot) {
    for (int64_t i = first; i < vectors; i += step) sum_vector(args, i * kVec, args.out[rank]);
    block_sync();
    meet(args, rank, turn + 2);  // all have read this rank's input
  } else {
    const int64_t part = (vectors + args.ranks - 1) / args.ranks;  // of one rank
    for (int64_t i = first; i < part && rank * part + i < vectors; i += step) {
      sum_vector(args, (rank * part + i) * kVec, args.scratch[rank]);
    }
    block_sync();
    meet(args, rank, turn + 2);  // sums are there, and inputs have been read
    for (int64_t i = first; i < part; i += step) {
      for (int r = 0; r < args.ranks && r * part + i < vectors; ++r) {
        const int64_t at = (r * part + i) * kVec;
        store_vec(args.out[rank] + at, load_vec<Vec16>(args.scratch[r] + at));
      }
    }
  }
  if (thread_x() == 0) *turns = turn + 2;
}

}  // namespace pf::gpu
