// Barriers, warp operations, fences and atomics: what orders the threads.
#include <string.h>

#include <algorithm>

#include "machine.h"

namespace pf::simt {
namespace {

uint64_t bit(int lane) { return uint64_t{1} << lane; }
uint64_t full_mask(int warp_size) { return warp_size == 64 ? ~uint64_t{0} : bit(warp_size) - 1; }

size_t warp_of(const Thread& thread) { return static_cast<size_t>(thread.warp); }

void check_same_barrier(Machine& machine, const Block& block, const void* place) {
  const Thread* first = block.first_waiting;
  if (block.waiting == 0 || first->barrier == place) return;
  machine.report(Fault::kBarrier, "different",
                 "threads of one block wait at different barriers: " + machine.places.describe(place) + " and " +
                     machine.places.describe(first->barrier) + ", the latter " + machine.describe(*first));
  machine.abandon();
}

struct Shuffle {
  void* value;
  size_t bytes;
  int from;
  alignas(16) char result[16];
};

void run_shuffle(Machine& machine, Lanes& lanes, const void*) {
  for (const Lane& lane : lanes) {
    if (lane.thread == nullptr) continue;
    auto& shuffle = *static_cast<Shuffle*>(lane.argument);
    const bool inside = shuffle.from >= 0 && shuffle.from < machine.warp_size;
    const Lane source = inside ? lanes[static_cast<size_t>(shuffle.from)] : Lane{};
    if (source.thread == nullptr || static_cast<Shuffle*>(source.argument)->bytes != shuffle.bytes) {
      machine.report(Fault::kDivergence, "shuffle",
                     "lane " + std::to_string(lane.thread->lane) + " reads lane " + std::to_string(shuffle.from) +
                         ", which has ended or shuffles another type, at " +
                         machine.places.describe(lane.thread->op.place));
      machine.abandon();
    }
    memcpy(shuffle.result, static_cast<Shuffle*>(source.argument)->value, shuffle.bytes);
  }
}

struct Vote {
  bool predicate;
  uint64_t result;
};

void run_vote(Machine&, Lanes& lanes, const void*) {
  uint64_t result = 0;
  for (const Lane& lane : lanes) {
    if (lane.thread != nullptr && static_cast<Vote*>(lane.argument)->predicate) result |= bit(lane.thread->lane);
  }
  for (const Lane& lane : lanes) {
    if (lane.thread != nullptr) static_cast<Vote*>(lane.argument)->result = result;
  }
}

}  // namespace

// --- the block barrier -----------------------------------------------------------------------------------------------

void Machine::release_barrier(Block& block) {
  ++block.epoch;
  block.waiting = 0;
  for (Thread* thread : block.threads) {
    block.view.merge(thread->clock.view);
    thread->clock.view.clear();
    if (thread != current()) make_runnable(*thread);
  }
}

void block_sync(Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  Block& block = *self.block;
  const void* place = machine.places.intern(at);
  if (machine.dropped(SyncSite::kBlockSync, place)) return;
  check_same_barrier(machine, block, place);
  self.state = Thread::kAtBarrier;
  self.barrier = place;
  if (block.waiting == 0) block.first_waiting = &self;
  // A thread that has ended never arrives: hardware may let that pass, a kernel must not rely on it.
  if (++block.waiting < block.threads.size()) {
    machine.switch_away();
    return;
  }
  machine.release_barrier(block);
  self.state = Thread::kRunnable;
  if (machine.options.order == Order::kRandom) {
    machine.make_runnable(self);
    machine.switch_away();
  }
}

// --- warp operations -------------------------------------------------------------------------------------------------

bool Machine::warp_op_is_complete(const Thread& thread) const {
  const size_t warp = warp_of(thread);
  return (full_mask(warp_size) & ~thread.block->exited[warp] & ~thread.block->arrived[warp]) == 0;
}

void Machine::order_lanes(Lanes& lanes) {
  std::array<uint32_t, kMaxWarp> known{};
  View view;
  for (const Lane& lane : lanes) {
    if (lane.thread == nullptr) continue;
    const Clock& clock = lane.thread->clock;
    for (size_t i = 0; i < kMaxWarp; ++i) known[i] = std::max(known[i], clock.lanes[i]);
    known[static_cast<size_t>(lane.thread->lane)] = clock.now;
    view.merge(clock.view);
  }
  for (const Lane& lane : lanes) {
    if (lane.thread == nullptr) continue;
    lane.thread->clock.lanes = known;
    lane.thread->clock.view = view;
    ++lane.thread->clock.now;
  }
}

void Machine::finish_warp_op(Thread& last) {
  Block& block = *last.block;
  Lanes lanes{};
  for (int i = 0; i < warp_size; ++i) {
    if ((block.arrived[warp_of(last)] & bit(i)) == 0) continue;
    Thread* thread = block.threads[static_cast<size_t>(last.warp * warp_size + i)];
    if (thread->op.place != last.op.place || strcmp(thread->op.name, last.op.name) != 0) {
      report(Fault::kDivergence, "operations",
             std::string("lanes of one warp meet in different operations: ") + last.op.name + " at " +
                 places.describe(last.op.place) + " by lane " + std::to_string(last.lane) + ", " + thread->op.name +
                 " at " + places.describe(thread->op.place) + " by lane " + std::to_string(thread->lane));
      abandon();
    }
    lanes[static_cast<size_t>(i)] = {thread, thread->op.argument};
  }
  block.arrived[warp_of(last)] = 0;
  last.op.run(*this, lanes, last.op.common);
  if (last.op.orders_memory && tracks()) order_lanes(lanes);
  for (const Lane& lane : lanes) {
    if (lane.thread != nullptr && lane.thread != current()) make_runnable(*lane.thread);
  }
}

void Machine::warp_op(const WarpOp& op) {
  Thread& self = *current();
  self.op = op;
  self.state = Thread::kInWarpOp;
  self.block->arrived[warp_of(self)] |= bit(self.lane);
  if (!warp_op_is_complete(self)) {
    switch_away();
    return;
  }
  finish_warp_op(self);
  self.state = Thread::kRunnable;
  if (options.order == Order::kRandom) {
    make_runnable(self);
    switch_away();
  }
}

void Machine::thread_ended(Thread& thread) {
  if (!thread.open_copies.empty() || !thread.copy_groups.empty()) {
    report(Fault::kAsyncCopy, "never", "a thread ended before its asynchronous copies were waited for");
  }
  end_stores(thread);
  thread.state = Thread::kDone;
  Block& block = *thread.block;
  if (--block.alive == 0) block_ended(block);
  block.exited[warp_of(thread)] |= bit(thread.lane);
  if (block.arrived[warp_of(thread)] == 0 || !warp_op_is_complete(thread)) return;
  for (Thread* other : block.threads) {
    if (other->warp == thread.warp && other->state == Thread::kInWarpOp) {
      finish_warp_op(*other);
      return;
    }
  }
}

void warp_sync(Where at) {
  const Inside inside;
  Machine& machine = *current()->machine;
  const void* place = machine.places.intern(at);
  if (machine.dropped(SyncSite::kWarpSync, place)) return;
  machine.warp_op({"warp_sync", place, nullptr, [](Machine&, Lanes&, const void*) {}, nullptr, true});
}

void shuffle(void* value, size_t bytes, int from, Where at) {
  const Inside inside;
  Machine& machine = *current()->machine;
  Shuffle argument{value, bytes, from, {}};
  machine.warp_op({"shuffle", machine.places.intern(at), &argument, run_shuffle, nullptr, false});
  memcpy(value, argument.result, bytes);
}

uint64_t ballot(bool predicate, Where at) {
  const Inside inside;
  Machine& machine = *current()->machine;
  Vote vote{predicate, 0};
  machine.warp_op({"ballot", machine.places.intern(at), &vote, run_vote, nullptr, false});
  return vote.result;
}

// --- fences and atomics ----------------------------------------------------------------------------------------------

// All that is before the next access of a thread, to be passed on to whoever acquires it.
View Machine::knowledge(const Thread& thread) const {
  const Block& block = *thread.block;
  View view = thread.clock.view;
  view.merge(block.view);
  const uint32_t first = block.linear * block_threads();
  view.clocks[first + thread.index] = thread.clock.now;
  const uint32_t warp_begin = first + static_cast<uint32_t>(thread.warp * warp_size);
  for (uint32_t lane = 0; lane < kMaxWarp; ++lane) {
    if (const uint32_t known = thread.clock.lanes[lane]; known > 0) {
      uint32_t& clock = view.clocks[warp_begin + lane];
      clock = std::max(clock, known);
    }
  }
  uint32_t& epoch = view.epochs[block.linear];
  epoch = std::max(epoch, block.epoch);
  return view;
}

void fence(Where at) {
  const Inside inside;
  Thread& self = *current();
  if (self.machine->dropped(SyncSite::kFence, self.machine->places.intern(at))) return;
  self.clock.view.merge(self.clock.pending);
  self.clock.pending.clear();
  self.clock.fenced = self.machine->knowledge(self);
  ++self.clock.now;  // what comes next is not covered
}

void spin(Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  if (++machine.spins > machine.options.spin_limit) {
    machine.report(Fault::kLivelock, "spin",
                   "no progress in the loop at " + machine.places.describe(machine.places.intern(at)));
    machine.abandon();
  }
  // Behind all others, in whatever order: who spins waits for somebody.
  const bool in_turn = machine.options.order == Order::kForward || machine.options.order == Order::kReverse;
  if (in_turn) {
    machine.runnable.push_back(&self);
  } else {
    machine.runnable.push_front(&self);
  }
  machine.switch_away();
}

bool planted(const char* name) {
  const Inside inside;
  Machine& machine = *current()->machine;
  const auto [found, is_new] = machine.dropped_at.try_emplace({name, SyncSite::kPlant}, false);
  if (is_new) found->second = machine.dropped(SyncSite::kPlant, std::string(name));
  return found->second;
}

template <class T>
T atomic(AtomicOp op, T* p, T operand, T expected, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  machine.access(self, p, sizeof(T), true, true, machine.places.intern(at));
  View& released = machine.released[reinterpret_cast<uintptr_t>(p)];
  self.clock.pending.merge(released);
  released.merge(self.clock.fenced);
  const T old = *p;
  switch (op) {
    case AtomicOp::kAdd:
      *p = static_cast<T>(old + operand);
      break;
    case AtomicOp::kMax:
      *p = std::max(old, operand);
      break;
    case AtomicOp::kMin:
      *p = std::min(old, operand);
      break;
    case AtomicOp::kOr:
      *p = static_cast<T>(old | operand);
      break;
    case AtomicOp::kExchange:
      *p = operand;
      break;
    case AtomicOp::kCompareExchange:
      if (old == expected) *p = operand;
      break;
  }
  return old;
}

template <class T>
T load_acquire(const T* p, Where at) {
  const Inside inside;
  Thread& self = *current();
  self.machine->access(self, p, sizeof(T), false, true, self.machine->places.intern(at));
  self.clock.view.merge(self.machine->released[reinterpret_cast<uintptr_t>(p)]);
  return *p;
}

template <class T>
void store_release(T* p, T value, Where at) {
  const Inside inside;
  Thread& self = *current();
  self.machine->access(self, p, sizeof(T), true, true, self.machine->places.intern(at));
  self.machine->released[reinterpret_cast<uintptr_t>(p)] = self.machine->knowledge(self);
  ++self.clock.now;
  *p = value;
}

template int32_t atomic(AtomicOp, int32_t*, int32_t, int32_t, Where);
template uint32_t atomic(AtomicOp, uint32_t*, uint32_t, uint32_t, Where);
template unsigned long long atomic(AtomicOp, unsigned long long*, unsigned long long, unsigned long long, Where);
template int32_t load_acquire(const int32_t*, Where);
template uint32_t load_acquire(const uint32_t*, Where);
template void store_release(int32_t*, int32_t, Where);
template void store_release(uint32_t*, uint32_t, Where);

}  // namespace pf::simt
