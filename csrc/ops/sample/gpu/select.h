// Which of a row's tokens are the largest, without sorting: a radix select on the bits of their values, by one block.
#pragma once
#include "../../../gpu/block_reduce.h"

namespace pf::gpu {

using u64 = unsigned long long;  // what integer atomics take

// Maps floats to integers of the same order; -0 becomes +0, its equal.
GPU_HOST_DEVICE uint32_t order_key(float value) {
  const uint32_t bits = detail::as_bits(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// A set of tokens: those whose key is above `key`, and those of that very key up to token `last`.
struct Cut {
  uint32_t key = 0;
  int last = 0x7fffffff;
  GPU_DEVICE bool keeps(float value, int token) const {
    const uint32_t own = order_key(value);
    return own > key || (own == key && token <= last);
  }
};

struct Bin {
  int index;
  u64 before;  // weight of all bins above
};

constexpr int kMaxBins = 1 << 11;

// The bin at which the weight of the bins from the top down reaches `target`, bins 0 ... count - 1; by one warp. The
// weights of all bins reach it. Every lane gives back the same.
GPU_DEVICE Bin find_bin(const u64* bins, int count, u64 target) {
  const int per_lane = count / kWarp, lane = lane_id(), begin = lane * per_lane;
  u64 own = 0;
  // Each lane begins elsewhere in its bins: side by side they would meet the same banks, sixteen at once.
  for (int i = 0; i < per_lane; ++i) own += bins[begin + (i + lane) % per_lane];
  u64 above = own;  // of this lane and the higher ones, then of the higher ones alone
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const u64 other = shuffle_down(above, delta);
    if (lane + delta < kWarp) above += other;
  }
  above -= own;
  Bin bin = {begin + per_lane - 1, above};
  const bool here = above < target && target <= above + own;
  if (here) {
    while (bin.before + bins[bin.index] < target) bin.before += bins[bin.index--];
  }
  const u64 votes = ballot(here);
  int winner = 0;
  while (winner < kWarp - 1 && (votes >> winner & 1) == 0) ++winner;
  return {shuffle(bin.index, winner), shuffle(bin.before, winner)};
}

// Keeps those of `kept` before which, in the order of descending value and ascending token, less than `target` of
// weight lies. weight(value) is an integer, so that sums do not depend on their order; all of them together reach the
// target, which is above 0. Thread t owns the tokens t, t + kThreads, ...
template <int kThreads, class Weight>
GPU_DEVICE Cut select_top(const float* values, int count, const Cut& kept, u64 target, Weight weight) {
  constexpr int kShift[] = {21, 10, 0}, kBits[] = {11, 11, 10};
  GPU_SHARED(u64, bins, [kMaxBins]);
  GPU_SHARED(Bin, found, [1]);
  const int thread = static_cast<int>(thread_x());
  uint32_t prefix = 0;
  u64 before = 0;
  for (int level = 0; level < 3; ++level) {
    const int num_bins = 1 << kBits[level];
    for (int i = thread; i < num_bins; i += kThreads) bins[i] = 0;
    block_sync();
    for (int i = thread; i < count; i += kThreads) {
      const uint32_t key = order_key(values[i]) >> kShift[level];
      if (key >> kBits[level] != prefix || !kept.keeps(values[i], i)) continue;
      atomic_add(&bins[key & static_cast<uint32_t>(num_bins - 1)], weight(values[i]));
    }
    block_sync();
    if (warp_id() == 0) {
      const Bin bin = find_bin(bins, num_bins, target - before);
      if (lane_id() == 0) found[0] = bin;
    }
    block_sync();
    prefix = prefix << kBits[level] | static_cast<uint32_t>(found[0].index);
    before += found[0].before;
  }
  // Tokens of the key found weigh the same; how many of them does it take?
  Cut cut = {prefix, prefix == kept.key ? kept.last : 0x7fffffff};
  u64 equals = 0, own = 0;
  for (int i = thread; i < count; i += kThreads) {
    if (order_key(values[i]) != prefix || !kept.keeps(values[i], i)) continue;
    ++equals;
    own = weight(values[i]);
  }
  equals = block_reduce<kThreads>(equals, Sum{});
  own = block_reduce<kThreads>(own, Max{});
  const u64 needed = own == 0 ? equals : (target - before + own - 1) / own;
  if (needed >= equals) return cut;
  // The token up to which that many of the equals lie: a search by halves, since ties at the cut are rare.
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    u64 until = 0;
    for (int i = thread; i <= middle; i += kThreads) {
      if (order_key(values[i]) == prefix && kept.keeps(values[i], i)) ++until;
    }
    if (block_reduce<kThreads>(until, Sum{}) >= needed) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  cut.last = low;
  return cut;
}

}  // namespace pf::gpu
