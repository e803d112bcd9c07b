// A GPU that is emulated on one OS thread, for its host: allocate, copy, launch, and read what was found.
//
//   simt::Device device;
//   device.options.order = simt::Order::kRandom;
//   float* x = static_cast<float*>(device.allocate(400, "x"));
//   device.write(x, values, 400);
//   GPU_LAUNCH(kernel, {grid}, threads, 0, &device, x, 100);     // throws simt::Error with all reports
//   device.read(values, x, 400);
//
// Every GPU thread is a fiber. It runs until it waits for others: at a barrier, a warp operation or in a spin loop.
// Which one runs next is the order's choice. What is always found: barriers that not all threads reach, warp operations
// that lanes of a warp disagree on, deadlock, livelock, misaligned vectors, too much shared memory.
//
// Check mode. A kernel compiled with -fsanitize=thread and linked with hooks.cpp, instead of the sanitizer's own
// library, reports every load and store here. Then also found, whatever the order: accesses outside an array, reads of
// what nobody wrote, and races, each with the lines of both sides (tracker.h says how).
//
// Mutants. Each barrier, fence and wait that a kernel passes is a site; options.drop leaves one of them out. A kernel's
// tests run it once a site and expect to be told: so it is proven, not assumed, that a missing barrier would be found.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pf::simt {

enum class Order {
  kForward,    // by index, each as far as it gets
  kReverse,    // the same from the last to the first
  kRandom,     // any runnable thread
  kWarpAhead,  // one warp, chosen at random, runs as far as it can before the others start
};

// Something that a kernel did wrong.
enum class Fault {
  kBarrier,        // threads wait at different barriers, or some left before
  kDivergence,     // lanes of a warp disagree on a warp operation, or read from an absent lane
  kDeadlock,       // all wait
  kLivelock,       // a spin loop without end
  kMisaligned,     // a vector access or a copy at an address that is no multiple of its size
  kOutOfBounds,    // next to an array, or in no array at all
  kUninitialized,  // a read of what nobody wrote, or of what a copy still under way will write
  kRace,           // two accesses, one a write, that nothing orders
  kAsyncCopy,      // a copy that nobody waited for
  kMbarrier,       // too many arrivals or bytes, use before it is initialized, again or after its end
  kProxyFence,     // a bulk copy of what a thread wrote, without fence_async() between
  kSharedMemory,   // more than a block has
};
const char* name_of(Fault fault);

struct Report {
  Fault fault;
  std::string text;  // what, where, who; with both lines for a race
};

// What a launch throws when it could not start (no reports) or when something was found.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, std::vector<Report> found)
      : std::runtime_error(message), reports(std::move(found)) {}
  std::vector<Report> reports;
  bool has(Fault fault) const;
};

// A place where a kernel waits or orders memory, or where a planted bug is (GPU_PLANTED).
struct SyncSite {
  enum Kind { kBlockSync, kWarpSync, kFence, kAsyncWait, kBarrierArrive, kBarrierWait, kProxyFence, kPlant };
  Kind kind;
  std::string at;  // file:line, or the plant's name
  auto operator<=>(const SyncSite&) const = default;
};

// How one source line accessed one kind of memory.
struct AccessCount {
  std::string at;
  bool shared, write;
  int bytes;              // of one lane
  uint64_t requests;      // of whole warps
  uint64_t transactions;  // passes over the banks of shared memory; sectors of 32 bytes of global memory
  uint64_t ideal;         // what the same bytes would have cost side by side
  double factor() const { return static_cast<double>(transactions) / static_cast<double>(ideal); }
};

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// What the host asked for.
struct Launch {
  const void* kernel;  // the function, which tells instances of a template apart
  Dim3 grid, block;
  size_t shared_bytes;  // beside what the kernel declares by itself
};

struct Options {
  Order order = Order::kForward;
  uint64_t seed = 1;
  bool check = true;                    // track accesses, where the kernel was compiled for it
  bool count = false;                   // collect access counts and launches
  bool bulk = true;                     // false: a GPU older than sm_90, without mbarriers and bulk copies
  bool concurrent_blocks = false;       // all blocks are resident: grid-wide flags work
  size_t shared_limit = 99 * 1024;      // bytes a block; the least of sm_80 ... sm_120 that opt-in allows
  uint64_t spin_limit = 2'000'000;      // turns of spin loops in one launch before it counts as livelock
  uint64_t access_limit = 200'000'000;  // tracked accesses, likewise: a loop that waits for nobody
  std::optional<SyncSite> drop;         // the mutant to run
  bool guard = false;  // a host that touches the device's memory itself ends with a segmentation fault;
                       // to be set before the first allocation
};

struct Machine;  // machine.h

// One device and its memory. Not thread-safe, and one launch at a time: a launch returns when the kernel has ended.
class Device {
 public:
  Device();
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Options options;

  // Aligned to 256 bytes, with red zones on both sides, filled with NaNs and uninitialized until written.
  void* allocate(size_t bytes, const char* name);
  void release(void* memory);
  // Between host and device; ranges must lie within one allocation. std::out_of_range otherwise.
  void write(void* to, const void* from, size_t bytes);
  void read(void* to, const void* from, size_t bytes) const;
  void fill(void* to, int byte, size_t bytes);

  // Between the two, a launch runs nothing: its kernel and a copy of its arguments are kept, to be run in this order
  // any number of times. Nothing may be copied or filled meanwhile (std::logic_error).
  using Recording = std::vector<std::function<void()>>;
  void start_recording();
  Recording stop_recording();

  // Whether kernels of this program report their accesses: it is linked with hooks.cpp.
  static bool instrumented();

  const std::vector<SyncSite>& sites() const;  // passed by the launches so far, each once
  // Of the launches since the last call; counts only of what cost more than `above` times the least.
  std::vector<AccessCount> take_counts(double above = 0.0);
  std::vector<Launch> take_launches();

  // `warp_size` is the one that the kernel was compiled for, 32 or 64.
  template <class... P, class... A>
  void launch(void (*kernel)(P...), const char* name, int warp_size, Dim3 grid, Dim3 block, size_t shared_bytes,
              A&&... arguments) {
    using Call = std::pair<void (*)(P...), std::tuple<std::decay_t<P>...>>;
    const Call call(kernel,
                    std::tuple<std::decay_t<P>...>{static_cast<std::decay_t<P>>(std::forward<A>(arguments))...});
    auto launched = [=, this] {
      if (options.count) launches_.push_back({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes});
      run(
          name, warp_size, grid, block, shared_bytes,
          [](const void* c) { std::apply(static_cast<const Call*>(c)->first, static_cast<const Call*>(c)->second); },
          &call, sizeof call);
    };
    if (recording_) {
      recording_->push_back(std::move(launched));
    } else {
      launched();
    }
  }

 private:
  void run(const char* name, int warp_size, Dim3 grid, Dim3 block, size_t shared_bytes, void (*entry)(const void*),
           const void* arguments, size_t argument_bytes);
  void refuse_while_recording() const;
  std::unique_ptr<Machine> machine_;
  std::optional<Recording> recording_;
  std::vector<Launch> launches_;
};

}  // namespace pf::simt
