// Prints what this machine can do at most: probe THREADS → {"int8_gops": …, "read_gbps": …}, each the best of many
// short runs, so that a neighbour on the machine has to be quiet for some milliseconds only.
#include "probe.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1;
  constexpr size_t kBytes = size_t{512} << 20, kWindow = size_t{32} << 20;  // a window was last read 480 MB ago
  auto* data = static_cast<uint8_t*>(std::aligned_alloc(64, kBytes));
  if (data == nullptr) return 1;
  std::memset(data, 1, kBytes);
  double gops = 0, gbps = 0;
  for (size_t i = 0; i < 64; ++i) {
    gops = std::max(gops, probe::int8_gops(threads));
    gbps = std::max(gbps, probe::read_gbps(data + i * kWindow % kBytes, kWindow, threads));
  }
  std::free(data);
  std::printf("{\"int8_gops\": %.2f, \"read_gbps\": %.2f}\n", gops, gbps);
}
