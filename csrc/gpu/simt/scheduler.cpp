// Launches, and which thread runs next.
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <numeric>

#include "machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace pf::simt {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kGuardBytes = 4096;

// The emulated thread that runs, null while the host does. A kernel's threadIdx has no other way to be found.
thread_local Thread* g_running = nullptr;

char* map_memory(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(p, bytes);  // stacks that were here left their frames' red zones behind
#endif
  return static_cast<char*>(p);
}

Dim3 index_in(unsigned linear, Dim3 size) {
  return {linear % size.x, linear / size.x % size.y, linear / size.x / size.y};
}

std::string text(Dim3 d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

// Runs on a thread's own stack.
void thread_main() {
  Thread& self = *g_running;
  {
    const Inside arrived;
  }
  self.machine->entry(self.machine->arguments);
  const Inside inside;
  self.machine->thread_ended(self);
  // A block that has ended is the host's to replace; otherwise the next thread goes on. Nobody comes back here.
  self.machine->switch_away();
  abort();
}

}  // namespace

Thread* current() { return g_running; }

unsigned thread_x() { return index_in(g_running->index, g_running->machine->block_dim).x; }
unsigned threads_x() { return g_running->machine->block_dim.x; }
Dim3 block_index() { return g_running->block->index; }
Dim3 grid_size() { return g_running->machine->grid; }

Machine::~Machine() {
  for (const auto& block : blocks) munmap(block->arena, kArenaBytes);
  if (stacks != nullptr) munmap(stacks, stacks_bytes);
}

std::string Machine::describe(const Thread& thread) const {
  return "block " + text(thread.block->index) + " thread " + text(index_in(thread.index, block_dim)) + " (warp " +
         std::to_string(thread.warp) + ", lane " + std::to_string(thread.lane) + ")";
}

std::string Machine::describe_thread(uint32_t thread_in_grid) const {
  if (thread_in_grid >= grid_threads()) return "a bulk copy";
  return "block " + text(index_in(thread_in_grid / block_threads(), grid)) + " thread " +
         text(index_in(thread_in_grid % block_threads(), block_dim));
}

void Machine::report(Fault fault, const std::string& key, const std::string& what) {
  constexpr size_t kMaxReports = 20;
  if (reports.size() >= kMaxReports || !report_keys.insert(name_of(fault) + key).second) return;
  reports.push_back({fault, std::string(name_of(fault)) + " in " + kernel + ": " + what +
                                (g_running == nullptr ? "" : "\n    by     " + describe(*g_running))});
}

void Machine::abandon() {
  stopped = true;
  Thread* self = g_running;
  g_running = nullptr;
  Fiber::switch_to(self->fiber, main);
  abort();
}

bool Machine::dropped(SyncSite::Kind kind, const std::string& at) {
  const SyncSite site = {kind, at};
  if (known_sites.insert(site).second) sites.push_back(site);
  return options.drop == site;
}

bool Machine::dropped(SyncSite::Kind kind, const void* place) {
  const auto [found, is_new] = dropped_at.try_emplace({place, kind}, false);
  if (is_new) found->second = dropped(kind, places.describe(place));
  return found->second;
}

void Machine::make_runnable(Thread& thread) {
  thread.state = Thread::kRunnable;
  runnable.push_back(&thread);
}

Thread* Machine::next_runnable() {
  if (runnable.empty()) return nullptr;
  if (options.order == Order::kForward || options.order == Order::kReverse) {
    Thread* next = runnable.front();
    runnable.pop_front();
    return next;
  }
  if (options.order == Order::kRandom) std::swap(runnable[random() % runnable.size()], runnable.back());
  Thread* next = runnable.back();
  runnable.pop_back();
  return next;
}

void Machine::switch_away() {
  Thread* self = g_running;
  const bool block_ended = self->block->alive == 0;
  Thread* next = stopped || block_ended ? nullptr : next_runnable();
  if (next == self) return;
  g_running = next;
  Fiber::switch_to(self->fiber, next != nullptr ? next->fiber : main);
  g_running = self;
}

void Machine::check_launch(size_t shared_bytes) const {
  const auto refuse = [&](const std::string& why) { throw Error("launch of " + kernel + ": " + why, {}); };
  const uint64_t threads_of_block = uint64_t{block_dim.x} * block_dim.y * block_dim.z;
  if (g_running != nullptr) refuse("launched by a kernel");
  if (threads_of_block < 1 || threads_of_block > 1024)
    refuse("a block of " + std::to_string(threads_of_block) + " threads");
  if (block_dim.z > 64) refuse("a block with z = " + std::to_string(block_dim.z));
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    refuse("a grid of " + text(grid) + " blocks");
  }
  if (uint64_t{grid.x} * grid.y * grid.z * threads_of_block > 0xffffffffu)
    refuse("more threads than can be told apart");
  if (shared_bytes > options.shared_limit) {
    refuse(std::to_string(shared_bytes) + " bytes of shared memory; a block has " +
           std::to_string(options.shared_limit));
  }
}

void Machine::make_threads(size_t resident) {
  while (blocks.size() < resident) {
    blocks.push_back(std::make_unique<Block>());
    blocks.back()->arena = map_memory(kArenaBytes);
    blocks.back()->used = kArenaBytes;  // to be poisoned
  }
  const size_t wanted = resident * block_threads();
  if (threads.size() >= wanted) return;
  if (stacks != nullptr) munmap(stacks, stacks_bytes);
  stacks_bytes = wanted * kStackBytes;
  stacks = map_memory(stacks_bytes);
  while (threads.size() < wanted) threads.push_back(std::make_unique<Thread>());
  for (size_t i = 0; i < wanted; ++i) {
    threads[i]->machine = this;
    threads[i]->stack = stacks + i * kStackBytes;
    mprotect(threads[i]->stack, kGuardBytes,
             PROT_NONE);  // a stack overflow ends the process, not another thread's stack
  }
}

void Machine::start_block(Block& block, uint32_t linear) {
  const unsigned count = block_threads();
  const size_t warps = (count + static_cast<unsigned>(warp_size) - 1) / static_cast<unsigned>(warp_size);
  size_t slot = 0;
  while (blocks[slot].get() != &block) ++slot;

  block.linear = linear;
  block.index = index_in(linear, grid);
  block.epoch = 1;
  block.active = true;
  block.alive = count;
  block.waiting = 0;
  block.view.clear();
  block.arrays.clear();
  block.array_of.clear();
  block.mbarriers.clear();
  memset(block.arena, 0xff, block.used);  // NaNs
  block.used = kRedZone;
  block.shadow.reset(kArenaBytes, false);
  if (dynamic_bytes > 0) {
    block.used = 128;
    block.arrays.push_back({block.used, dynamic_bytes, "dynamic shared memory"});
    memset(block.arena + block.used, 0xff, dynamic_bytes + kRedZone);
    block.used += dynamic_bytes + kRedZone;
  }
  block.arrived.assign(warps, 0);
  block.exited.assign(warps, 0);
  block.threads.clear();
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = *threads[slot * count + i];
    thread.block = &block;
    thread.index = i;
    thread.warp = static_cast<int>(i) / warp_size;
    thread.lane = static_cast<int>(i) % warp_size;
    thread.clock = Clock{};
    thread.open_copies.clear();
    thread.copy_groups.clear();
    thread.open_stores.clear();
    thread.store_groups.clear();
    thread.stores = thread.source_actor = thread.target_actor = 0;
    thread.passes.clear();
    // Stacks that all begin at the same offset of a page would share a few sets of the cache.
    const size_t colour = i % 61 * 128;
    thread.fiber.start(thread.stack + kGuardBytes, kStackBytes - kGuardBytes - colour, thread_main);
    block.threads.push_back(&thread);
  }
  for (size_t i = count; i < warps * static_cast<size_t>(warp_size); ++i) {
    block.exited[warps - 1] |= uint64_t{1} << (i % static_cast<size_t>(warp_size));
  }

  std::vector<Thread*> order = block.threads;
  if (options.order == Order::kReverse) std::ranges::reverse(order);
  if (options.order == Order::kWarpAhead) {
    std::vector<int> rank(warps);
    std::iota(rank.begin(), rank.end(), 0);
    std::ranges::shuffle(rank, random);
    std::ranges::stable_sort(order, {}, [&](const Thread* t) { return rank[static_cast<size_t>(t->warp)]; });
  }
  for (Thread* thread : order) make_runnable(*thread);
}

void Machine::report_deadlock(const Block& block) {
  size_t at_barrier = 0, in_op = 0, at_mbarrier = 0;
  std::string barrier, op, mbarrier;
  for (const Thread* thread : block.threads) {
    if (thread->state == Thread::kAtBarrier) {
      ++at_barrier;
      barrier = " (" + places.describe(thread->barrier) + ")";
    } else if (thread->state == Thread::kAtMbarrier) {
      if (at_mbarrier++ == 0) mbarrier = "; the first waits " + describe_wait(*thread);
    } else if (thread->state == Thread::kInWarpOp) {
      ++in_op;
      op = " (" + std::string(thread->op.name) + " at " + places.describe(thread->op.place) + ")";
    }
  }
  const size_t ended = block.threads.size() - block.alive;
  report(ended > 0 && at_barrier > 0 ? Fault::kBarrier : Fault::kDeadlock, "deadlock",
         "of " + std::to_string(block.threads.size()) + " threads of block " + text(block.index) + ", " +
             std::to_string(at_barrier) + " wait at a barrier" + barrier + ", " + std::to_string(in_op) +
             " in a warp operation" + op + ", " + std::to_string(at_mbarrier) + " at an mbarrier, " +
             std::to_string(ended) + " have ended" + mbarrier);
}

void Machine::run(const char* name, int size, Dim3 grid_size, Dim3 block_size, size_t shared_bytes,
                  void (*call)(const void*), const void* call_arguments, size_t call_argument_bytes) {
  kernel = name;
  warp_size = size;
  grid = grid_size;
  block_dim = block_size;
  check_launch(shared_bytes);
  dynamic_bytes = shared_bytes;
  entry = call;
  arguments = call_arguments;
  argument_bytes = call_argument_bytes;
  ++launch;
  stopped = false;
  spins = 0;
  random.seed(options.seed);
  reports.clear();
  report_keys.clear();
  conflicts.clear();
  accesses = 0;
  dropped_at.clear();
  runnable.clear();
  released.clear();
  proxy_fences.clear();
  actors = 0;
  requests.clear();

  const Opened opened(*this);
  const uint32_t total = grid.x * grid.y * grid.z;
  std::vector<uint32_t> order(total);
  std::iota(order.begin(), order.end(), 0u);
  if (options.order == Order::kReverse) std::ranges::reverse(order);
  if (options.order == Order::kRandom || options.order == Order::kWarpAhead) std::ranges::shuffle(order, random);
  const size_t resident = options.concurrent_blocks ? total : 1;
  make_threads(resident);
  for (const auto& block : blocks) block->active = false;
  uint32_t started = 0;
  for (; started < resident; ++started) start_block(*blocks[started], order[started]);

  while (!stopped) {
    Thread* thread = next_runnable();
    if (thread != nullptr) {
      g_running = thread;
      Fiber::switch_to(main, thread->fiber);
      g_running = nullptr;
    }
    bool active = false;
    for (const auto& block : blocks) {
      if (!block->active) continue;
      if (block->alive == 0) {
        flush_counts();
        block->active = false;
        if (started < total && !stopped) start_block(*block, order[started++]);
      } else if (thread == nullptr) {
        report_deadlock(*block);
        stopped = true;
      }
      active |= block->active;
    }
    if (!active) break;
  }
  if (reports.empty()) return;
  std::string message;
  for (const Report& found : reports) message += (message.empty() ? "" : "\n") + found.text;
  throw Error(message, std::move(reports));
}

}  // namespace pf::simt
