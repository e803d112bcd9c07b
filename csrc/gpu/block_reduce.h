// Reductions over a block: a tree over each warp, then the warps in ascending order, so that the result is the same
// bits in every thread, run and batch. All threads of the block call; kThreads is a multiple of kWarp.
#pragma once
#include "gpu.h"

namespace pf::gpu {

struct Sum {
  template <class T>
  GPU_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  GPU_DEVICE T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

template <int kThreads, class Op, class T>
GPU_DEVICE T block_reduce(T value, Op op) {
  constexpr int kWarps = kThreads / kWarp;
  GPU_SHARED(T, parts, [kWarps]);
  GPU_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) value = op(value, shuffle_xor(value, mask));
  block_sync();  // somebody may still read the parts of the last call
  if (lane_id() == 0) parts[warp_id()] = value;
  block_sync();
  T result = parts[0];
  for (int w = 1; w < kWarps; ++w) result = op(result, parts[w]);
  return result;
}

}  // namespace pf::gpu
