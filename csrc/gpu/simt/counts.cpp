// What accesses cost: passes over the 32 banks of shared memory, sectors of 32 bytes of global memory.
#include <algorithm>

#include "machine.h"

namespace pf::simt {
namespace {

constexpr int kBanks = 32;
constexpr uintptr_t kBankBytes = 4, kSectorBytes = 32;

void sort_unique(std::vector<uintptr_t>& values) {
  std::ranges::sort(values);
  const auto [first, last] = std::ranges::unique(values);
  values.erase(first, last);
}

// A request is served in phases of as many lanes as make up 128 bytes. Within a phase different words of one bank take
// turns; lanes that read the same word share it.
void count_banks(const Request& request, AccessCount& total) {
  const int per_phase = request.bytes >= 16 ? 8 : request.bytes >= 8 ? 16 : 32;
  std::map<int, std::array<std::vector<uintptr_t>, kBanks>> phases;
  for (const auto& [lane, address] : request.lanes) {
    for (uintptr_t word = address / kBankBytes;
         word <= (address + static_cast<uintptr_t>(request.bytes) - 1) / kBankBytes; ++word) {
      phases[lane / per_phase][word % kBanks].push_back(word);
    }
  }
  for (auto& [phase, banks] : phases) {
    size_t passes = 0;
    for (std::vector<uintptr_t>& words : banks) {
      sort_unique(words);
      passes = std::max(passes, words.size());
    }
    total.transactions += passes;
    ++total.ideal;
  }
}

void count_sectors(const Request& request, AccessCount& total) {
  std::vector<uintptr_t> sectors, bytes;
  for (const auto& [lane, address] : request.lanes) {
    for (uintptr_t i = address; i < address + static_cast<uintptr_t>(request.bytes); ++i) {
      bytes.push_back(i);
      sectors.push_back(i / kSectorBytes);
    }
  }
  sort_unique(bytes);
  sort_unique(sectors);
  total.transactions += sectors.size();
  total.ideal += (bytes.size() + kSectorBytes - 1) / kSectorBytes;
}

}  // namespace

bool Machine::is_shared(const Thread& thread, const void* p) const {
  return static_cast<const char*>(p) >= thread.block->arena &&
         static_cast<const char*>(p) < thread.block->arena + kArenaBytes;
}

void Machine::count(const Thread& thread, const void* p, size_t bytes, bool write, const void* place) {
  // A copy has two sides at one place; the direction tells them apart.
  const auto* key = static_cast<const char*>(place) + (write ? 1 : 0);
  const uint32_t pass = const_cast<Thread&>(thread).passes[key]++;
  if (bytes == 0) return;  // a copy of nothing: the lane takes part, so that it stays in step with the others
  Request& request = requests[{place, write, thread.block, thread.warp, pass}];
  request.shared = is_shared(thread, p);
  request.write = write;
  request.bytes = static_cast<int>(bytes);
  request.lanes.emplace_back(thread.lane, reinterpret_cast<uintptr_t>(p));
}

void Machine::flush_counts() {
  for (const auto& [key, request] : requests) {
    const void* place = std::get<0>(key);
    AccessCount& total = counts[{place, request.write}];
    total.shared = request.shared;
    total.write = request.write;
    total.bytes = request.bytes;
    ++total.requests;
    if (request.shared) {
      count_banks(request, total);
    } else {
      count_sectors(request, total);
    }
  }
  requests.clear();
}

std::vector<AccessCount> Device::take_counts(double above) {
  std::vector<AccessCount> taken;
  for (auto& [key, total] : machine_->counts) {
    if (total.factor() <= above) continue;  // to find its line takes longer than the kernel
    total.at = machine_->places.describe(key.first);
    taken.push_back(total);
  }
  machine_->counts.clear();
  return taken;
}

}  // namespace pf::simt
