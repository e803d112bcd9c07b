// Choosing the largest tokens of a row without sorting the vocabulary.
//
// Candidates are the tokens above a floor, in ascending order of ids, collected by one vector pass. What of them
// remains is decided by a radix select on the bits of the values: three histograms of 11, 11 and 10 bits find the exact
// value at which the wanted weight is reached.
#pragma once
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../../cpu/simd.h"

namespace pf::PF_ISA {
namespace {

struct Candidates {
  int32_t* ids;   // ascending
  float* values;  // finite
  int64_t count;
};

// Replaces `out` by the entries of values[0, n) that are finite and >= floor.
inline void collect(const float* values, int64_t n, float floor, Candidates& out) {
  const F16x limit = set1(floor > -FLT_MAX ? floor : -FLT_MAX);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const F16x v = n - i >= 16 ? load(values + i) : load_partial(values + i, n - i, -INFINITY);
    for (uint32_t bits = ~less_bits(v, limit) & 0xffffu; bits != 0; bits &= bits - 1) {
      const int64_t id = i + __builtin_ctz(bits);
      out.ids[count] = static_cast<int32_t>(id);
      out.values[count++] = values[id];
    }
  }
  out.count = count;
}

// Sum of e^(values[i] - shift), by blocks of float sums added up in double: a single float sum over a vocabulary would
// lose some four decimal digits.
inline double sum_exp(const float* values, int64_t n, float shift) {
  constexpr int64_t kBlock = 1024;
  const F16x base = set1(shift);
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = begin + kBlock < n ? begin + kBlock : n;
    F16x sum = zero();
    for (int64_t i = begin; i < end; i += 16) {
      const F16x v = end - i >= 16 ? load(values + i) : load_partial(values + i, end - i, -INFINITY);
      sum = add(sum, exp(sub(v, base)));
    }
    total += static_cast<double>(reduce_add(sum));
  }
  return total;
}

// Maps floats to integers of the same order.
PF_INLINE uint32_t order_key(float value) {
  const uint32_t bits = float_to_bits(value + 0.0f);  // -0 becomes +0, its equal
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Keeps those candidates before which, in the order of descending value and ascending id, less than `target` of weight
// lies; candidate i weighs weights[i], or 1 where weights is null. The order of ids is kept.
inline void keep_top(Candidates& c, double target, const float* weights) {
  constexpr int kShift[] = {21, 10, 0};
  constexpr uint32_t kBins[] = {1u << 11, 1u << 11, 1u << 10};
  const auto weight = [&](int64_t i) { return weights == nullptr ? 1.0 : static_cast<double>(weights[i]); };
  double mass[1 << 11];
  bool used[1 << 11];
  double before = 0.0;  // weight of all keys above those that begin with `prefix`
  uint32_t prefix = 0;
  for (int level = 0; level < 3; ++level) {
    memset(mass, 0, sizeof mass);
    memset(used, 0, sizeof used);
    uint32_t lowest = kBins[level];
    for (int64_t i = 0; i < c.count; ++i) {
      const uint32_t key = order_key(c.values[i]) >> kShift[level];
      if (key / kBins[level] != prefix) continue;
      const uint32_t bin = key % kBins[level];
      mass[bin] += weight(i);
      used[bin] = true;
      if (bin < lowest) lowest = bin;
    }
    uint32_t bin = kBins[level] - 1;
    for (; bin > lowest; --bin) {  // the lowest is the answer even where rounding leaves the target unreached
      if (used[bin] && before + mass[bin] >= target) break;
      before += mass[bin];
    }
    prefix = prefix * kBins[level] + bin;
  }
  int64_t kept = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    const uint32_t key = order_key(c.values[i]);
    if (key < prefix) continue;
    if (key == prefix) {
      if (before >= target) continue;
      before += weight(i);
    }
    c.ids[kept] = c.ids[i];
    c.values[kept++] = c.values[i];
  }
  c.count = kept;
}

// Sorts by descending value, then ascending id. Insertion: for the few tokens of a table of alternatives.
inline void sort_candidates(Candidates& c) {
  for (int64_t i = 1; i < c.count; ++i) {
    const float value = c.values[i];
    const int32_t id = c.ids[i];
    int64_t at = i;
    for (; at > 0 && c.values[at - 1] < value; --at) {
      c.values[at] = c.values[at - 1];
      c.ids[at] = c.ids[at - 1];
    }
    c.values[at] = value;
    c.ids[at] = id;
  }
}

}  // namespace
}  // namespace pf::PF_ISA
