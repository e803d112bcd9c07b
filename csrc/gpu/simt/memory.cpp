// The memory of the device and of its blocks: what belongs to whom, and what an access there means.
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>

#include "machine.h"

namespace pf::simt {
namespace {

constexpr size_t kAlignment = 256;

uintptr_t address_of(const void* p) { return reinterpret_cast<uintptr_t>(p); }
bool within(uintptr_t address, const void* begin, size_t bytes) { return address - address_of(begin) < bytes; }

// Whether an address lies in a loaded program or library: constants, tables, the text of messages.
bool in_image(uintptr_t address) {
  using Ranges = std::vector<std::pair<uintptr_t, uintptr_t>>;
  static const Ranges ranges = [] {
    Ranges found;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
            const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            static_cast<Ranges*>(data)->emplace_back(begin, begin + info->dlpi_phdr[i].p_memsz);
          }
          return 0;
        },
        &found);
    return found;
  }();
  return std::ranges::any_of(ranges, [&](const auto& r) { return address >= r.first && address < r.second; });
}

const char* verb(bool write) { return write ? "write" : "read"; }

std::string extent(bool write, size_t bytes, const std::string& name, long offset, size_t size) {
  return std::string(verb(write)) + " of " + std::to_string(bytes) + " bytes at " + name + "[" +
         std::to_string(offset) + "] of " + std::to_string(size) + " bytes";
}

// What a byte belongs to, for reports.
struct Owner {
  Shadow* shadow;
  size_t shadow_offset;
  const char* name;
  size_t offset;
};

// Offsets of reports are of the first byte at fault.
void track_bytes(Machine& machine, Thread& thread, const Owner& owner, size_t bytes, bool write, bool atomic,
                 const void* place, const Actor* actor) {
  const Accessor accessor = machine.accessor_of(thread, actor);
  Access seen;  // the last store that the bulk copy was found to see
  for (size_t i = 0; i < bytes; ++i) {
    Cell& cell = owner.shadow->at(owner.shadow_offset + i);
    const auto where = [&] { return std::string(owner.name) + "[" + std::to_string(owner.offset + i) + "]"; };
    if (!cell.initialized && (!write || atomic)) {
      cell.initialized = true;
      if (machine.conflicts.emplace("uninitialized", place, nullptr).second) {
        machine.report(Fault::kUninitialized, machine.places.describe(place),
                       "read of " + where() + " at " + machine.places.describe(place));
      }
    }
    const bool stored = actor != nullptr && cell.has_write && cell.launch == machine.launch;
    const Access store = cell.write;
    const Conflict conflict = track(cell, accessor, machine.launch, write, atomic, place);
    if (stored && conflict.kind == nullptr && (store.thread != seen.thread || store.clock != seen.clock)) {
      if (machine.engine_sees(accessor, store)) {
        seen = store;
      } else if (machine.conflicts.emplace("proxy", place, store.place).second) {
        machine.report(Fault::kProxyFence, machine.places.describe(place) + machine.places.describe(store.place),
                       "no fence_async() between the store to " + where() + " at " +
                           machine.places.describe(store.place) + " and the bulk copy at " +
                           machine.places.describe(place));
      }
    }
    if (conflict.kind == nullptr || !machine.conflicts.emplace(conflict.kind, place, conflict.other.place).second) {
      continue;
    }
    const std::string now = machine.places.describe(place), before = machine.places.describe(conflict.other.place);
    machine.report(Fault::kRace, conflict.kind + now + before,
                   std::string(conflict.kind) + " of " + where() + " at " + now + "\n    before " +
                       (conflict.exact ? machine.describe_thread(conflict.other.thread) : "several threads") + " at " +
                       before);
  }
}

}  // namespace

Pages::Pages(size_t bytes) : bytes_(bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(p, bytes);  // stacks that were here left their frames' red zones behind
#endif
  begin_ = static_cast<char*>(p);
}

Pages::~Pages() {
  if (begin_ != nullptr) munmap(begin_, bytes_);
}

void Pages::allow(bool access) const { mprotect(begin_, bytes_, access ? PROT_READ | PROT_WRITE : PROT_NONE); }

void Machine::allow_access(bool access) {
  if (!options.guard) return;
  for (const auto& [end, allocation] : memory) allocation.pages.allow(access);
}

// --- from the host ---------------------------------------------------------------------------------------------------

Allocation* Machine::allocation_at(uintptr_t address, size_t slack) {
  const auto found = memory.upper_bound(address - std::min<uintptr_t>(address, slack));
  if (found == memory.end() || address + slack < address_of(found->second.begin)) return nullptr;
  return &found->second;
}

void* Device::allocate(size_t bytes, const char* name) {
  refuse_while_recording();
  const size_t padded = bytes + 3 * kAlignment;
  Allocation allocation{Pages(padded), nullptr, bytes, name, {}};
  memset(allocation.pages.begin(), 0xff, padded);
  allocation.begin = allocation.pages.begin() + kAlignment;
  allocation.shadow.reset(bytes, false);
  if (options.guard) allocation.pages.allow(false);
  char* const begin = allocation.begin;
  machine_->memory.emplace(address_of(begin) + std::max<size_t>(bytes, 1), std::move(allocation));
  return begin;
}

void Device::release(void* p) {
  if (p == nullptr) return;
  const auto found = machine_->memory.upper_bound(address_of(p));
  if (found == machine_->memory.end() || found->second.begin != p) {
    throw std::out_of_range("simt::Device::release: no allocation begins there");
  }
  machine_->memory.erase(found);
}

namespace {

Allocation& whole_range(Machine& machine, const void* p, size_t bytes, const char* what) {
  Allocation* allocation = machine.allocation_at(address_of(p), 0);
  if (allocation == nullptr || address_of(p) - address_of(allocation->begin) + bytes > allocation->bytes) {
    throw std::out_of_range(std::string("simt::Device::") + what + ": " + std::to_string(bytes) +
                            " bytes do not lie within one allocation");
  }
  return *allocation;
}

void set_initialized(Allocation& allocation, const void* p, size_t bytes) {
  const size_t offset = address_of(p) - address_of(allocation.begin);
  for (size_t i = 0; i < bytes; ++i) allocation.shadow.at(offset + i).initialized = true;
}

}  // namespace

void Device::write(void* to, const void* from, size_t bytes) {
  refuse_while_recording();
  if (bytes == 0) return;
  Allocation& allocation = whole_range(*machine_, to, bytes, "write");
  const Opened opened(*machine_);
  memcpy(to, from, bytes);
  if (instrumented()) set_initialized(allocation, to, bytes);
}

void Device::fill(void* to, int byte, size_t bytes) {
  refuse_while_recording();
  if (bytes == 0) return;
  Allocation& allocation = whole_range(*machine_, to, bytes, "fill");
  const Opened opened(*machine_);
  memset(to, byte, bytes);
  if (instrumented()) set_initialized(allocation, to, bytes);
}

void Device::read(void* to, const void* from, size_t bytes) const {
  refuse_while_recording();
  if (bytes == 0) return;
  whole_range(*machine_, from, bytes, "read");
  const Opened opened(*machine_);
  memcpy(to, from, bytes);
}

// --- from a kernel ---------------------------------------------------------------------------------------------------

void* shared_array(const void* key, size_t bytes, const char* name, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  Block& block = *self.block;
  if (const auto found = block.array_of.find(key); found != block.array_of.end()) return block.arena + found->second;
  const size_t offset = (block.used + 15) / 16 * 16;
  size_t total = bytes;
  for (const SharedArray& array : block.arrays) total += array.bytes;
  if (total > machine.options.shared_limit || offset + bytes + kRedZone > kArenaBytes) {
    machine.report(Fault::kSharedMemory, name,
                   std::to_string(total) + " bytes with " + name + " at " +
                       machine.places.describe(machine.places.intern(at)) + "; a block has " +
                       std::to_string(machine.options.shared_limit));
    machine.abandon();
  }
  memset(block.arena + offset, 0xff, bytes + kRedZone);
  block.arrays.push_back({offset, bytes, name});
  block.array_of[key] = offset;
  block.used = offset + bytes + kRedZone;
  return block.arena + offset;
}

void* dynamic_shared(Where at) {
  const Inside inside;
  Thread& self = *current();
  if (self.machine->dynamic_bytes == 0) {
    self.machine->report(Fault::kSharedMemory, "dynamic",
                         "the launch gave no dynamic shared memory for " +
                             self.machine->places.describe(self.machine->places.intern(at)));
    self.machine->abandon();
  }
  return self.block->arena + self.block->arrays.front().offset;
}

Accessor Machine::accessor_of(const Thread& thread, const Actor* actor) const {
  const uint32_t per_block = block_threads(), first = thread.block->linear * per_block;
  const uint32_t warp = first + static_cast<uint32_t>(thread.warp * warp_size);
  return {first + thread.index,
          thread.block->linear,
          thread.block->epoch,
          warp,
          warp + static_cast<uint32_t>(warp_size),
          per_block,
          thread.clock,
          thread.block->view,
          actor == nullptr ? first + thread.index : actor->thread,
          actor == nullptr ? thread.clock.now : actor->clock};
}

void Machine::access(Thread& thread, const void* p, size_t bytes, bool write, bool atomic, const void* place,
                     const Actor* actor) {
  const uintptr_t address = address_of(p);
  Block& block = *thread.block;
  if (within(address, block.arena, kArenaBytes)) {
    const size_t offset = address - address_of(block.arena);
    const SharedArray* array = nullptr;  // the one that holds the first byte, or the last one before it
    for (const SharedArray& candidate : block.arrays) {
      if (offset >= candidate.offset) array = &candidate;
    }
    if (array == nullptr || offset + bytes > array->offset + array->bytes) {
      const char* name = array == nullptr ? "shared memory" : array->name;
      const size_t begin = array == nullptr ? 0 : array->offset;
      report(Fault::kOutOfBounds, places.describe(place),
             extent(write, bytes, name, static_cast<long>(offset - begin), array == nullptr ? 0 : array->bytes) +
                 " at " + places.describe(place));
      abandon();
    }
    if (!atomic && !block.mbarriers.empty()) {
      const auto next = block.mbarriers.upper_bound(offset + bytes - 1);  // the one before it may reach into the range
      if (next != block.mbarriers.begin() && std::prev(next)->first + sizeof(uint64_t) > offset) {
        const Mbarrier& live = std::prev(next)->second;
        report(Fault::kMbarrier, places.describe(place),
               std::string("ordinary ") + verb(write) + " of " + live.name + ", initialized at " +
                   places.describe(live.init_place) + ", at " + places.describe(place));
        abandon();
      }
    }
    if (tracks()) {
      track_bytes(*this, thread, {&block.shadow, offset, array->name, offset - array->offset}, bytes, write, atomic,
                  place, actor);
    }
    return;
  }
  Allocation* allocation = allocation_at(address, 0);
  if (allocation == nullptr) allocation = allocation_at(address, kAlignment);
  if (allocation == nullptr) {
    report(Fault::kOutOfBounds, places.describe(place),
           std::string(verb(write)) + " of " + std::to_string(bytes) + " bytes of memory that is not the device's at " +
               places.describe(place));
    abandon();
  }
  const auto offset = static_cast<long>(address - address_of(allocation->begin));
  if (offset < 0 || static_cast<size_t>(offset) + bytes > allocation->bytes) {
    report(Fault::kOutOfBounds, places.describe(place),
           extent(write, bytes, allocation->name, offset, allocation->bytes) + " at " + places.describe(place));
    abandon();
  }
  if (tracks()) {
    const auto at = static_cast<size_t>(offset);
    track_bytes(*this, thread, {&allocation->shadow, at, allocation->name.c_str(), at}, bytes, write, atomic, place,
                actor);
  }
}

void Machine::note_hook(Thread& thread, const void* p, size_t bytes, bool write, bool atomic, const void* pc) {
  if (stopped || !options.check) return;
  if (++accesses > options.access_limit) {
    report(Fault::kLivelock, "accesses", "no end in sight at " + places.describe(pc));
    abandon();
  }
  const uintptr_t address = address_of(p);
  if (within(address, stacks, stacks_bytes)) {
    if (within(address, thread.stack, stacks_bytes / threads.size())) return;
    report(Fault::kOutOfBounds, places.describe(pc),
           std::string(verb(write)) + " of another thread's local memory at " + places.describe(pc));
    abandon();
  }
  if (!write && (within(address, arguments, argument_bytes) || in_image(address))) return;
  access(thread, p, bytes, write, atomic, pc);
  if (options.count) count(thread, p, bytes, write, pc);
}

void note_access(const void* p, size_t bytes, bool write, bool atomic, const void* pc) {
  Thread* self = current();
  if (self == nullptr || Inside::now()) return;
  const Inside inside;
  self->machine->note_hook(*self, p, bytes, write, atomic, pc);
}

namespace {

void check_alignment(Machine& machine, const void* p, size_t bytes, const char* what, const void* place) {
  if (address_of(p) % bytes == 0) return;
  machine.report(Fault::kMisaligned, machine.places.describe(place),
                 std::string(what) + " of " + std::to_string(bytes) + " bytes at " + machine.places.describe(place));
  machine.abandon();
}

void vector_access(const void* p, size_t bytes, bool write, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  check_alignment(machine, p, bytes, verb(write), place);
  machine.access(self, p, bytes, write, false, place);
  if (machine.options.count) machine.count(self, p, bytes, write, place);
}

// The machine has one instruction for global memory and another one for a block's.
void need_space(const void* p, bool shared, const char* word, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  if (machine.is_shared(self, p) == shared) return;
  machine.report(Fault::kOutOfBounds, word,
                 std::string(word) + (shared ? " to global memory at " : " to shared memory at ") +
                     machine.places.describe(machine.places.intern(at)));
  machine.abandon();
}

}  // namespace

void read_vector(void* to, const void* from, size_t bytes, Where at) {
  vector_access(from, bytes, false, at);
  memcpy(to, from, bytes);
}

void write_vector(void* to, const void* from, size_t bytes, Where at) {
  need_space(to, false, "store_vec", at);
  vector_access(to, bytes, true, at);
  memcpy(to, from, bytes);
}

void write_shared_vector(void* to, const void* from, size_t bytes, Where at) {
  need_space(to, true, "store_shared", at);
  vector_access(to, bytes, true, at);
  memcpy(to, from, bytes);
}

// --- asynchronous copies ---------------------------------------------------------------------------------------------

// Of memory in which the bytes are known to lie.
void Machine::mark(Thread& thread, const void* p, size_t bytes, bool initialized) {
  if (!tracks()) return;
  Block& block = *thread.block;
  const bool shared = is_shared(thread, p);
  Allocation* allocation = shared ? nullptr : allocation_at(address_of(p), 0);
  if (!shared && allocation == nullptr) return;
  Shadow& shadow = shared ? block.shadow : allocation->shadow;
  const size_t offset = address_of(p) - address_of(shared ? block.arena : allocation->begin);
  for (size_t i = 0; i < bytes; ++i) shadow.at(offset + i).initialized = initialized;
}

// A copy may land at any time between its issue and its wait; here it lands at the end, having destroyed its target at
// the beginning, so that too weak a wait shows in values as well as in checks.
void copy_async(void* shared, const void* global, size_t bytes, size_t valid_bytes, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  const void* place = machine.places.intern(at);
  check_alignment(machine, shared, bytes, "asynchronous copy", place);
  if (valid_bytes > 0) check_alignment(machine, global, bytes, "asynchronous copy", place);
  machine.access(self, shared, bytes, true, false, place);
  memset(shared, 0xff, bytes);
  machine.mark(self, shared, bytes, false);
  if (machine.options.count) {
    machine.count(self, global, valid_bytes, false, place);
    machine.count(self, shared, bytes, true, place);
  }
  self.open_copies.push_back({static_cast<char*>(shared), static_cast<const char*>(global), bytes, valid_bytes, place});
}

void copy_async_commit() {
  const Inside inside;
  Thread& self = *current();
  self.copy_groups.push_back(std::move(self.open_copies));
  self.open_copies.clear();
}

void Machine::land(Thread& thread, const AsyncCopy& copy) {
  if (copy.valid > 0) access(thread, copy.from, copy.valid, false, false, copy.place);
  access(thread, copy.to, copy.bytes, true, false, copy.place);
  memcpy(copy.to, copy.from, copy.valid);
  memset(copy.to + copy.valid, 0, copy.bytes - copy.valid);
}

void copy_async_wait(int groups_left, Where at) {
  const Inside inside;
  Thread& self = *current();
  Machine& machine = *self.machine;
  if (machine.dropped(SyncSite::kAsyncWait, machine.places.intern(at))) ++groups_left;
  while (static_cast<int>(self.copy_groups.size()) > groups_left) {
    for (const AsyncCopy& copy : self.copy_groups.front()) machine.land(self, copy);
    self.copy_groups.pop_front();
  }
}

}  // namespace pf::simt
