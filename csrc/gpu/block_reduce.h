// Reductions and sums over a block: a tree over each warp, then the warps in ascending order, so that the result is the
// same bits in every thread, run and batch. All threads of the block call; kThreads is a multiple of kWarp.
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

// By way of `parts`, which nobody uses any more.
template <class Op, class T, size_t kWarps>
GPU_DEVICE T block_reduce(T value, Op op, T (&parts)[kWarps]) {
  GPU_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) value = op(value, shuffle_xor(value, mask));
  if (lane_id() == 0) parts[warp_id()] = value;
  block_sync();
  T result = parts[0];
  for (size_t w = 1; w < kWarps; ++w) result = op(result, parts[w]);
  return result;
}

template <int kThreads, class Op, class T>
GPU_DEVICE T block_reduce(T value, Op op) {
  GPU_SHARED(T, parts, [kThreads / kWarp]);
  block_sync();  // somebody may still read the parts of the last call
  return block_reduce(value, op, parts);
}

// The sum of the values of this thread and of those before it; `total` becomes that of all.
template <int kThreads>
GPU_DEVICE int block_scan(int value, int& total) {
  constexpr int kWarps = kThreads / kWarp;
  GPU_SHARED(int, parts, [kWarps]);
  const int lane = lane_id();
  GPU_UNROLL for (int delta = 1; delta < kWarp; delta *= 2) {
    const int other = shuffle(value, lane < delta ? lane : lane - delta);
    if (lane >= delta) value += other;
  }
  block_sync();  // somebody may still read the parts of the last call
  if (lane == kWarp - 1) parts[warp_id()] = value;
  block_sync();
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp_id()) value += parts[w];
    total += parts[w];
  }
  return value;
}

}  // namespace pf::gpu
