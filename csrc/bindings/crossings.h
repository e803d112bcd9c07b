// A count of the calls from Python into native code that a step makes, so that a test can show it does not grow with
// the number of layers. Entry points that a step uses call count_crossing().
#pragma once
#include <atomic>
#include <cstdint>

inline std::atomic<int64_t>& crossings() {
  static std::atomic<int64_t> count{0};
  return count;
}
inline void count_crossing() { crossings().fetch_add(1, std::memory_order_relaxed); }
