// The emulated machine behind a Device: threads, blocks, memory, and what was found. Internal to this folder.
//
// Who owns what: the machine owns threads and blocks of the running launch and reuses them for the next one; a launch
// owns nothing once it has ended. Only memory and its shadow, sites, and counts stay.
#pragma once
#include <deque>
#include <functional>
#include <random>
#include <set>
#include <unordered_map>

#include "fiber.h"
#include "intrinsics.h"
#include "places.h"
#include "simt.h"
#include "tracker.h"

namespace pf::simt {

struct Block;
struct Thread;

// One lane of a warp operation; absent lanes have no thread.
struct Lane {
  Thread* thread = nullptr;
  void* argument = nullptr;
};
using Lanes = std::array<Lane, kMaxWarp>;

// A warp operation, as each of its lanes brings it along. The last lane to arrive runs it for all.
struct WarpOp {
  const char* name;
  const void* place;
  void* argument;
  void (*run)(Machine& machine, Lanes& lanes, const void* common);
  const void* common;
  bool orders_memory;
};

struct AsyncCopy {
  char* to;
  const char* from;
  size_t bytes, valid;
  const void* place;
};

// A bulk copy under way.
struct BulkCopy {
  char* to;
  const char* from;
  size_t bytes;
  const void* place;
  std::vector<char> data;  // of a copy to global memory, once it has been taken
};

// Bulk copies to global memory that one thread waits for together.
struct StoreGroup {
  std::vector<BulkCopy> copies;
  uint32_t number;  // from 1
  bool taken;       // out of shared memory
};

struct Mbarrier {
  std::string name;
  const void* init_place = nullptr;
  Access init;
  uint32_t count = 0, pending = 0;   // arrivals of a phase, and those that lack
  int64_t expected = 0, issued = 0;  // bytes of the phase
  uint32_t phase = 0, actor = 0;
  std::vector<BulkCopy> copies;  // of the phase
  View arriving, completed;      // what those knew who arrived: in this phase, in the last one
  const void* last_arrival = nullptr;
  std::vector<Thread*> waiting;
};

// Who accesses on behalf of a thread: bulk.cpp.
struct Actor {
  uint32_t thread, clock;
};

// All stores of `known` are visible to bulk copies that come after it.
struct ProxyFence {
  Access at;
  View known;
};

struct Thread {
  enum State { kRunnable, kAtBarrier, kAtMbarrier, kInWarpOp, kDone };
  Machine* machine = nullptr;
  Block* block = nullptr;
  unsigned index = 0;  // in the block
  int warp = 0, lane = 0;
  State state = kDone;
  Fiber fiber;
  char* stack = nullptr;
  const void* barrier = nullptr;  // where it waits
  size_t mbarrier = 0;            // for which: its offset in shared memory
  WarpOp op{};
  Clock clock;
  std::vector<AsyncCopy> open_copies;
  std::deque<std::vector<AsyncCopy>> copy_groups;
  std::vector<BulkCopy> open_stores;
  std::deque<StoreGroup> store_groups;
  uint32_t stores = 0, source_actor = 0, target_actor = 0;  // groups so far; 0: no actor yet
  std::unordered_map<const void*, uint32_t> passes;         // how often it passed a place, for access counts
};

struct SharedArray {
  size_t offset, bytes;
  const char* name;
};

struct Block {
  Dim3 index;
  uint32_t linear = 0;
  uint32_t epoch = 1;
  bool active = false;
  size_t alive = 0, waiting = 0;
  const Thread* first_waiting = nullptr;  // at the barrier where all others must come
  std::vector<Thread*> threads;
  std::vector<uint64_t> arrived, exited;  // lanes, a warp
  View view;                              // known to all its threads since their last barrier
  char* arena = nullptr;                  // shared memory
  size_t used = 0;
  std::vector<SharedArray> arrays;
  std::map<const void*, size_t> array_of;  // key of shared_array -> offset
  std::map<size_t, Mbarrier> mbarriers;    // by offset
  Shadow shadow;
};

// Pages of the system, returned when destroyed.
class Pages {
 public:
  explicit Pages(size_t bytes);  // throws std::bad_alloc
  ~Pages();
  Pages(Pages&& other) noexcept : begin_(other.begin_), bytes_(other.bytes_) { other.begin_ = nullptr; }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  char* begin() const { return begin_; }
  void allow(bool access) const;  // whether anybody may read and write them

 private:
  char* begin_;
  size_t bytes_;
};

struct Allocation {
  Pages pages;
  char* begin;
  size_t bytes;
  std::string name;
  Shadow shadow;
};

// Accesses of the lanes of one warp that belong together: the n-th time each passed one place.
struct Request {
  bool shared, write;
  int bytes;
  std::vector<std::pair<int, uintptr_t>> lanes;
};

struct Machine {
  explicit Machine(Options& device_options) : options(device_options) {}
  ~Machine();

  Options& options;
  Places places;
  std::map<uintptr_t, Allocation> memory;  // by end address
  std::vector<SyncSite> sites;
  std::set<SyncSite> known_sites;
  std::map<std::pair<const void*, SyncSite::Kind>, bool> dropped_at;  // of the running launch
  std::map<std::pair<const void*, bool>, AccessCount> counts;         // by place and direction

  // The running launch.
  std::string kernel;
  int warp_size = 32;
  Dim3 grid, block_dim;
  size_t dynamic_bytes = 0;
  void (*entry)(const void*) = nullptr;
  const void* arguments = nullptr;
  size_t argument_bytes = 0;
  uint32_t launch = 0;
  bool stopped = false;
  uint64_t spins = 0;
  std::mt19937_64 random;
  std::vector<Report> reports;
  std::set<std::string> report_keys;
  std::set<std::tuple<const char*, const void*, const void*>> conflicts;  // reported: kind and both places
  uint64_t accesses = 0;
  std::deque<Thread*> runnable;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Thread>> threads;
  char* stacks = nullptr;
  size_t stacks_bytes = 0;
  Fiber main;
  std::unordered_map<uintptr_t, View> released;             // what an acquire of this address learns
  std::map<uint32_t, std::deque<ProxyFence>> proxy_fences;  // by thread
  uint32_t actors = 0;
  std::map<std::tuple<const void*, bool, const Block*, int, uint32_t>, Request> requests;

  unsigned block_threads() const { return block_dim.x * block_dim.y * block_dim.z; }
  bool tracks() const { return options.check && Device::instrumented(); }
  uint32_t grid_threads() const { return grid.x * grid.y * grid.z * block_threads(); }
  std::string describe(const Thread& thread) const;
  std::string describe_thread(uint32_t thread_in_grid) const;

  // scheduler.cpp
  void run(const char* name, int size, Dim3 grid_size, Dim3 block_size, size_t shared_bytes, void (*call)(const void*),
           const void* call_arguments, size_t call_argument_bytes);
  void check_launch(size_t shared_bytes) const;
  void make_threads(size_t resident);
  void start_block(Block& block, uint32_t linear);
  void make_runnable(Thread& thread);
  Thread* next_runnable();
  void switch_away();           // from the current thread to another, until it is runnable again
  [[noreturn]] void abandon();  // ends the launch; nothing of the current thread is unwound
  void report(Fault fault, const std::string& key, const std::string& text);
  void report_deadlock(const Block& block);
  bool dropped(SyncSite::Kind kind, const std::string& at);
  bool dropped(SyncSite::Kind kind, const void* place);

  // sync.cpp
  void thread_ended(Thread& thread);
  void release_barrier(Block& block);
  void warp_op(const WarpOp& op);
  bool warp_op_is_complete(const Thread& thread) const;
  void finish_warp_op(Thread& last);
  void order_lanes(Lanes& lanes);
  View knowledge(const Thread& thread) const;

  // bulk.cpp
  uint32_t new_actor();
  bool engine_sees(const Accessor& accessor, const Access& store) const;
  std::string describe_wait(const Thread& thread) const;  // for an mbarrier
  void block_ended(const Block& block);
  void end_stores(Thread& thread);

  // memory.cpp
  void allow_access(bool access);  // to all memory, if it is guarded
  Allocation* allocation_at(uintptr_t address, size_t slack);
  void access(Thread& thread, const void* p, size_t bytes, bool write, bool atomic, const void* place,
              const Actor* actor = nullptr);
  Accessor accessor_of(const Thread& thread, const Actor* actor = nullptr) const;
  Access access_of(const Thread& thread, const void* place) const { return accessor_of(thread).access(place); }
  void note_hook(Thread& thread, const void* p, size_t bytes, bool write, bool atomic, const void* pc);
  void mark(Thread& thread, const void* p, size_t bytes, bool initialized);
  void land(Thread& thread, const AsyncCopy& copy);

  // counts.cpp
  void count(const Thread& thread, const void* p, size_t bytes, bool write, const void* place);
  void flush_counts();
  bool is_shared(const Thread& thread, const void* p) const;
};

// The time in which guarded memory can be accessed.
class Opened {
 public:
  explicit Opened(Machine& machine) : machine_(machine) { machine_.allow_access(true); }
  ~Opened() { machine_.allow_access(false); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

 private:
  Machine& machine_;
};

constexpr size_t kArenaBytes = 512 * 1024;
constexpr size_t kRedZone = 64;

Thread* current();

// Held while a kernel is in the emulator's hands. Functions of the C++ library that both are made of may come from
// instrumented code; what they access on the emulator's behalf is not the kernel's. A thread that is resumed is in the
// emulator too, and leaves it.
class Inside {
 public:
  Inside() { g_inside = true; }
  ~Inside() { g_inside = false; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  static bool now() { return g_inside; }

 private:
  static inline thread_local bool g_inside = false;
};

}  // namespace pf::simt
