// Mbarriers and bulk copies, as sm_90 and later have them: one thread asks for many bytes, which another engine moves.
//
// A copy into shared memory destroys its target when it is issued and lands when somebody waits for the phase of its
// mbarrier; a copy out of it destroys its target likewise, takes its source when its group is waited for with
// read_only, and lands when it is waited for fully or its thread ends. Each is as late as the machine may be.
//
// The engine's accesses belong to actors of their own, numbered behind the threads of the grid: one for each mbarrier,
// whose clock is the phase, and two for each thread that copies out, whose clock is the group. Who waits learns their
// clock; nothing else orders them, not even the program order of the thread that issued them. What threads wrote by
// ordinary stores the engine sees only behind a fence_async() of somebody who knew of the store.
#include <string.h>

#include <algorithm>

#include "machine.h"

namespace pf::simt {
namespace {

constexpr int64_t kMostBytes = (1 << 20) - 1, kMostArrivals = (1 << 20) - 1;  // of one phase
constexpr size_t kFencesAThread = 8;                                          // that are remembered

// Reports; the caller abandons the launch when it holds no text any more, since nothing of it is unwound.
void misuse(Machine& machine, const void* place, const std::string& what) {
  machine.report(Fault::kMbarrier, machine.places.describe(place), what + " at " + machine.places.describe(place));
}

size_t offset_of(const Block& block, const void* p) {
  return static_cast<size_t>(static_cast<const char*>(p) - block.arena);
}

void need_mbarrier_address(Machine& machine, const Thread& self, const void* barrier, const void* place) {
  if (!machine.is_shared(self, barrier)) {
    misuse(machine, place, "an mbarrier outside shared memory");
    machine.abandon();
  }
  if (reinterpret_cast<uintptr_t>(barrier) % sizeof(uint64_t) != 0) {
    misuse(machine, place, "a misaligned mbarrier");
    machine.abandon();
  }
}

// The live mbarrier at an address, which its initialization must come before.
Mbarrier& mbarrier_at(Machine& machine, Thread& self, void* barrier, const void* place) {
  need_mbarrier_address(machine, self, barrier, place);
  const auto found = self.block->mbarriers.find(offset_of(*self.block, barrier));
  if (found == self.block->mbarriers.end()) {
    misuse(machine, place, "use of an mbarrier that is not initialized");
    machine.abandon();
  }
  const Mbarrier& state = found->second;
  if (machine.tracks() && !machine.accessor_of(self).after(state.init)) {
    machine.report(Fault::kRace, machine.places.describe(place),
                   "use of " + state.name + " at " + machine.places.describe(place) +
                       ", which nothing puts behind its initialization at " +
                       machine.places.describe(state.init_place));
    machine.abandon();
  }
  return found->second;
}

// Ends the phase: what it waited for lands, and whoever waits goes on.
void complete(Machine& machine, Thread& self, Mbarrier& barrier) {
  for (const BulkCopy& copy : barrier.copies) {
    memcpy(copy.to, copy.from, copy.bytes);
    machine.mark(self, copy.to, copy.bytes, true);
  }
  barrier.completed = std::move(barrier.arriving);
  barrier.arriving.clear();
  if (!barrier.copies.empty()) barrier.completed.clocks[barrier.actor] = barrier.phase + 1;
  barrier.copies.clear();
  ++barrier.phase;
  barrier.pending = barrier.count;
  barrier.expected = barrier.issued = 0;
  for (Thread* thread : barrier.waiting) machine.make_runnable(*thread);
  barrier.waiting.clear();
}

bool can_complete(const Mbarrier& barrier) { return barrier.pending == 0 && barrier.issued == barrier.expected; }

// After an arrival or a copy. A phase that has copies under way ends when somebody waits for it, and no sooner.
void settle(Machine& machine, Thread& self, Mbarrier& barrier, const void* place) {
  if (barrier.pending == 0 && barrier.issued > barrier.expected) {
    misuse(machine, place,
           "bulk copies of " + std::to_string(barrier.issued) + " bytes in a phase of " + barrier.name +
               " that expects " + std::to_string(barrier.expected) + ", as said at " +
               machine.places.describe(barrier.last_arrival) + "; found");
    machine.abandon();
  }
  if (can_complete(barrier) && (barrier.copies.empty() || !barrier.waiting.empty())) complete(machine, self, barrier);
}

// One side must be the block's shared memory and the other one must not.
void check_spaces(Machine& machine, const Thread& self, const void* shared, const void* global, const void* place) {
  if (machine.is_shared(self, shared) && !machine.is_shared(self, global)) return;
  machine.report(Fault::kOutOfBounds, machine.places.describe(place),
                 "a bulk copy that is not between shared and global memory at " + machine.places.describe(place));
  machine.abandon();
}

// What the engine asks of any copy, in either direction.
void check_bulk(Machine& machine, const Thread& self, const void* shared, const void* global, size_t bytes,
                const void* place) {
  check_spaces(machine, self, shared, global, place);
  bool wrong = false;
  const auto refuse = [&](const std::string& what) {
    machine.report(Fault::kMisaligned, machine.places.describe(place), what + " at " + machine.places.describe(place));
    wrong = true;
  };
  if (bytes == 0 || bytes % 16 != 0) refuse("bulk copy of " + std::to_string(bytes) + " bytes, no multiple of 16,");
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0) refuse("bulk copy with shared memory that is not aligned to 16");
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0) refuse("bulk copy with global memory that is not aligned to 16");
  if (wrong) machine.abandon();
}

void take(StoreGroup& group) {
  if (group.taken) return;
  for (BulkCopy& copy : group.copies) copy.data.assign(copy.from, copy.from + copy.bytes);
  group.taken = true;
}

void land_group(Machine& machine, Thread& thread, const StoreGroup& group) {
  for (const BulkCopy& copy : group.copies) {
    memcpy(copy.to, copy.data.data(), copy.bytes);
    machine.mark(thread, copy.to, copy.bytes, true);
  }
}

}  // namespace

// --- mbarriers -------------------------------------------------------------------------------------------------------

void barrier_init(void* barrier, int arrivals, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  Block& block = *self.block;
  const void* place = machine.places.intern(at);
  need_mbarrier_address(machine, self, barrier, place);
  if (arrivals < 1 || arrivals > kMostArrivals) {
    misuse(machine, place, "an mbarrier of " + std::to_string(arrivals) + " arrivals");
    machine.abandon();
  }
  const size_t offset = offset_of(block, barrier);
  if (const auto live = block.mbarriers.find(offset); live != block.mbarriers.end()) {
    misuse(machine, place,
           live->second.name + ", initialized at " + machine.places.describe(live->second.init_place) +
               ", is initialized again without being invalidated");
    machine.abandon();
  }
  machine.access(self, barrier, sizeof(uint64_t), true, false, place);
  memset(barrier, 0xb5, sizeof(uint64_t));  // opaque
  Mbarrier& made = block.mbarriers[offset];
  for (const SharedArray& array : block.arrays) {
    if (offset >= array.offset)
      made.name = "mbarrier " + std::string(array.name) + "[" +
                  std::to_string((offset - array.offset) / sizeof(uint64_t)) + "]";
  }
  made.init_place = made.last_arrival = place;
  made.init = machine.access_of(self, place);
  made.count = made.pending = static_cast<uint32_t>(arrivals);
  made.actor = machine.new_actor();
}

void barrier_invalidate(void* barrier, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  const Mbarrier& live = mbarrier_at(machine, self, barrier, place);
  if (!live.copies.empty()) {
    misuse(machine, place,
           live.name + " is invalidated before the bulk copy at " + machine.places.describe(live.copies.front().place) +
               " was waited for");
    machine.abandon();
  }
  if (!live.waiting.empty()) {
    misuse(
        machine, place,
        live.name + " is invalidated while threads wait at " + machine.places.describe(live.waiting.front()->barrier));
  }
  self.block->mbarriers.erase(offset_of(*self.block, barrier));
  machine.access(self, barrier, sizeof(uint64_t), true, false, place);
  memset(barrier, 0xff, sizeof(uint64_t));
}

void barrier_arrive(void* barrier, int64_t bytes, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  if (machine.dropped(SyncSite::kBarrierArrive, place)) return;
  Mbarrier& state = mbarrier_at(machine, self, barrier, place);
  machine.access(self, barrier, sizeof(uint64_t), true, true, place);
  if (state.pending == 0) {
    misuse(machine, place,
           "more arrivals than the " + std::to_string(state.count) + " of " + state.name + ", initialized at " +
               machine.places.describe(state.init_place) +
               ": the phase waits for bytes alone, the last arrival was at " +
               machine.places.describe(state.last_arrival) + "; one more");
    machine.abandon();
  }
  state.expected += bytes;
  if (bytes < 0 || state.expected > kMostBytes) {
    misuse(machine, place, "a phase of " + std::to_string(state.expected) + " bytes");
    machine.abandon();
  }
  if (machine.tracks()) state.arriving.merge(machine.knowledge(self));
  ++self.clock.now;
  --state.pending;
  state.last_arrival = place;
  settle(machine, self, state, place);
}

bool barrier_wait(void* barrier, uint32_t parity, bool until_over, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  if (machine.dropped(SyncSite::kBarrierWait, place)) return true;
  if (parity > 1) {
    misuse(machine, place, "parity " + std::to_string(parity));
    machine.abandon();
  }
  for (std::optional<uint32_t> began;;) {
    Mbarrier& state = mbarrier_at(machine, self, barrier, place);
    machine.access(self, barrier, sizeof(uint64_t), false, true, place);
    if (state.phase > began.value_or(state.phase) + 1) {
      misuse(machine, place,
             "phase " + std::to_string(state.phase - 1) + " of " + state.name + " ended, by the arrival at " +
                 machine.places.describe(state.last_arrival) + ", before a thread saw the end of the one before it");
      machine.abandon();
    }
    if (state.phase % 2 == parity && can_complete(state)) complete(machine, self, state);
    if (state.phase % 2 != parity) {
      if (machine.tracks()) self.clock.view.merge(state.completed);
      return true;
    }
    if (!until_over) return false;
    began = state.phase;
    self.state = Thread::kAtMbarrier;
    self.barrier = place;
    self.mbarrier = offset_of(*self.block, barrier);
    state.waiting.push_back(&self);
    machine.switch_away();
  }
}

std::string Machine::describe_wait(const Thread& thread) const {
  const Mbarrier& state = thread.block->mbarriers.at(thread.mbarrier);
  return "at " + places.describe(thread.barrier) + " for phase " + std::to_string(state.phase) + " of " + state.name +
         ", initialized at " + places.describe(state.init_place) + ", which lacks " + std::to_string(state.pending) +
         " of " + std::to_string(state.count) + " arrivals (the last one, or the initialization, at " +
         places.describe(state.last_arrival) + ") and " + std::to_string(state.expected - state.issued) + " of " +
         std::to_string(state.expected) + " bytes";
}

void Machine::block_ended(const Block& block) {
  for (const auto& [offset, barrier] : block.mbarriers) {
    if (barrier.copies.empty()) continue;
    const std::string at = places.describe(barrier.copies.front().place);
    report(Fault::kAsyncCopy, at, "a block ended before its bulk copy at " + at + " was waited for");
  }
}

// --- what the engine sees --------------------------------------------------------------------------------------------

uint32_t Machine::new_actor() { return grid_threads() + actors++; }

void fence_async(Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  if (machine.dropped(SyncSite::kProxyFence, place) || !machine.tracks()) return;
  const Access here = machine.access_of(self, place);
  std::deque<ProxyFence>& fences = machine.proxy_fences[here.thread];
  fences.push_back({here, machine.knowledge(self)});
  if (fences.size() > kFencesAThread) fences.pop_front();
  ++self.clock.now;  // what comes next is not covered
}

bool Machine::engine_sees(const Accessor& accessor, const Access& store) const {
  if (store.thread >= grid_threads()) return true;
  return std::ranges::any_of(proxy_fences, [&](const auto& of_thread) {
    return std::ranges::any_of(of_thread.second, [&](const ProxyFence& fence) {
      return accessor.after(fence.at) && fence.known.covers(store, store.thread / block_threads());
    });
  });
}

// --- copies ----------------------------------------------------------------------------------------------------------

void copy_bulk(void* shared, const void* global, size_t bytes, void* barrier, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  check_bulk(machine, self, shared, global, bytes, place);
  Mbarrier& state = mbarrier_at(machine, self, barrier, place);
  machine.access(self, barrier, sizeof(uint64_t), true, true, place);
  if (machine.tracks() && !machine.engine_sees(machine.accessor_of(self), state.init)) {
    machine.report(Fault::kProxyFence, machine.places.describe(place),
                   "no fence_async() between the initialization of " + state.name + " at " +
                       machine.places.describe(state.init_place) + " and the bulk copy at " +
                       machine.places.describe(place));
  }
  const Actor actor = {state.actor, state.phase + 1};
  machine.access(self, global, bytes, false, false, place, &actor);
  machine.access(self, shared, bytes, true, false, place, &actor);
  if (machine.options.count) machine.count(self, global, bytes, false, place);
  memset(shared, 0xff, bytes);
  machine.mark(self, shared, bytes, false);
  state.copies.push_back({static_cast<char*>(shared), static_cast<const char*>(global), bytes, place, {}});
  state.issued += static_cast<int64_t>(bytes);
  settle(machine, self, state, place);
}

void store_bulk(void* global, const void* shared, size_t bytes, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  check_bulk(machine, self, shared, global, bytes, place);
  if (self.source_actor == 0) {
    self.source_actor = machine.new_actor();
    self.target_actor = machine.new_actor();
  }
  const Actor source = {self.source_actor, self.stores + 1}, target = {self.target_actor, self.stores + 1};
  machine.access(self, shared, bytes, false, false, place, &source);
  machine.access(self, global, bytes, true, false, place, &target);
  if (machine.options.count) machine.count(self, global, bytes, true, place);
  memset(global, 0xff, bytes);
  machine.mark(self, global, bytes, false);
  self.open_stores.push_back({static_cast<char*>(global), static_cast<const char*>(shared), bytes, place, {}});
}

void store_bulk_commit() {
  const Inside inside;
  Thread& self = *current();
  self.store_groups.push_back({std::move(self.open_stores), ++self.stores, false});
  self.open_stores.clear();
}

void store_bulk_wait(int groups_left, bool read_only, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  if (machine.dropped(SyncSite::kAsyncWait, machine.places.intern(at))) ++groups_left;
  const size_t groups = self.store_groups.size(), left = static_cast<size_t>(groups_left);
  for (size_t i = 0; i + left < groups; ++i) {
    StoreGroup& group = read_only ? self.store_groups[i] : self.store_groups.front();
    take(group);
    if (self.source_actor != 0) self.clock.view.clocks[self.source_actor] = group.number;
    if (read_only) continue;
    land_group(machine, self, group);
    if (self.target_actor != 0) self.clock.view.clocks[self.target_actor] = group.number;
    self.store_groups.pop_front();
  }
}

// The end of the kernel completes what has been taken from shared memory, which ends with its block.
void Machine::end_stores(Thread& thread) {
  const auto never = [&](const BulkCopy& copy) {
    const std::string at = places.describe(copy.place);
    report(Fault::kAsyncCopy, at, "a thread ended before its bulk copy at " + at + " was waited for");
  };
  for (const BulkCopy& copy : thread.open_stores) never(copy);
  for (const StoreGroup& group : thread.store_groups) {
    if (group.taken) {
      land_group(*this, thread, group);
    } else if (!group.copies.empty()) {
      never(group.copies.front());
    }
  }
}

bool has_bulk() { return current()->machine->options.bulk; }

}  // namespace pf::simt
