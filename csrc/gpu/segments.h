// Which piece of a row of pieces something belongs to: tokens to sequences, blocks of a grid to sequences.
#pragma once
#include "gpu.h"

namespace pf::gpu {

// The last of `count` pieces that begins at or before `x`, where first(i) is where piece i begins; first(0) <= x.
template <class First>
GPU_DEVICE int piece_of(int count, int x, First first) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int mid = (low + high + 1) / 2;
    if (first(mid) <= x) {
      low = mid;
    } else {
      high = mid - 1;
    }
  }
  return low;
}

}  // namespace pf::gpu
