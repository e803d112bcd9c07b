#include "simt.h"

#include <algorithm>

#include "machine.h"

namespace pf::simt {
namespace {

// Set before main() by hooks.cpp in programs that are linked with it.
bool g_instrumented = false;

}  // namespace

const char* name_of(Fault fault) {
  switch (fault) {
    case Fault::kBarrier:
      return "barrier misuse";
    case Fault::kDivergence:
      return "divergent warp operation";
    case Fault::kDeadlock:
      return "deadlock";
    case Fault::kLivelock:
      return "livelock";
    case Fault::kMisaligned:
      return "misaligned access";
    case Fault::kOutOfBounds:
      return "access out of bounds";
    case Fault::kUninitialized:
      return "uninitialized read";
    case Fault::kRace:
      return "race";
    case Fault::kAsyncCopy:
      return "asynchronous copy not waited for";
    case Fault::kMbarrier:
      return "mbarrier misuse";
    case Fault::kProxyFence:
      return "missing proxy fence";
    case Fault::kSharedMemory:
      return "shared memory";
  }
  return "fault";
}

bool Error::has(Fault fault) const {
  return std::ranges::any_of(reports, [&](const Report& report) { return report.fault == fault; });
}

Device::Device() : machine_(std::make_unique<Machine>(options)) {}
Device::~Device() = default;

bool Device::instrumented() { return g_instrumented; }
void set_instrumented() { g_instrumented = true; }

void Device::refuse_while_recording() const {
  if (recording_) throw std::logic_error("simt::Device: only launches can be recorded");
}

void Device::start_recording() {
  refuse_while_recording();
  recording_.emplace();
}

Device::Recording Device::stop_recording() {
  if (!recording_) throw std::logic_error("simt::Device: nothing is being recorded");
  Recording recording = std::move(*recording_);
  recording_.reset();
  return recording;
}

const std::vector<SyncSite>& Device::sites() const { return machine_->sites; }

std::vector<Launch> Device::take_launches() { return std::exchange(launches_, {}); }

void Device::run(const char* name, int warp_size, Dim3 grid, Dim3 block, size_t shared_bytes,
                 void (*entry)(const void*), const void* arguments, size_t argument_bytes) {
  machine_->run(name, warp_size, grid, block, shared_bytes, entry, arguments, argument_bytes);
}

}  // namespace pf::simt
