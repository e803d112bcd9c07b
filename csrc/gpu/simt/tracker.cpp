#include "tracker.h"

#include <algorithm>

namespace pf::simt {
namespace {

void raise(uint32_t& value, uint32_t to) { value = std::max(value, to); }

bool is_before(const Cell& cell, const Accessor& accessor) {
  if (cell.many_blocks) return false;
  if (cell.many_block == accessor.block && cell.many_epoch < accessor.epoch) return true;
  const auto known = [&](const View& view) {
    const auto found = view.epochs.find(cell.many_block);
    return found != view.epochs.end() && cell.many_epoch < found->second;
  };
  return known(accessor.clock.view) || known(accessor.block_view);
}

void collapse(Cell& cell, uint32_t block_threads) {
  const auto add = [&](const Access& read) {
    const uint32_t block = read.thread / block_threads;
    if (!cell.has_many) {
      cell.has_many = true;
      cell.many_blocks = false;
      cell.many_block = block;
      cell.many_epoch = read.epoch;
    }
    cell.many_blocks |= cell.many_block != block;
    raise(cell.many_epoch, read.epoch);
  };
  for (const Access& read : *cell.more_reads) add(read);
  cell.more_reads->clear();
}

void add_read(Cell& cell, const Accessor& accessor, bool atomic, const void* place) {
  const Access read = accessor.access(place);
  cell.atomic_reads = (!cell.has_read || cell.atomic_reads) && atomic;
  if (cell.has_many && is_before(cell, accessor)) cell.has_many = false;
  if (cell.has_many && cell.many_block == accessor.block) {  // one more of many
    raise(cell.many_epoch, accessor.epoch);
    return;
  }
  const auto replaces = [&](const Access& earlier) { return earlier.thread == read.thread || accessor.after(earlier); };
  if (!cell.has_read || replaces(cell.read)) {
    cell.has_read = true;
    cell.read = read;
    return;
  }
  if (cell.more_reads == nullptr) cell.more_reads = std::make_unique<std::vector<Access>>();
  for (Access& earlier : *cell.more_reads) {
    if (replaces(earlier)) {
      earlier = read;
      return;
    }
  }
  cell.more_reads->push_back(read);
  if (cell.more_reads->size() > kMaxReaders) collapse(cell, accessor.block_threads);
}

Conflict conflict_with_reads(const Cell& cell, const Accessor& accessor, bool atomic) {
  if (!cell.has_read || (atomic && cell.atomic_reads)) return {};
  const auto unordered = [&](const Access& read) { return read.thread != accessor.thread && !accessor.after(read); };
  if (unordered(cell.read)) return {"write after read", cell.read};
  if (cell.more_reads != nullptr) {
    const auto found = std::ranges::find_if(*cell.more_reads, unordered);
    if (found != cell.more_reads->end()) return {"write after read", *found};
  }
  if (cell.has_many && !is_before(cell, accessor)) return {"write after read", cell.read, false};
  return {};
}

}  // namespace

void View::merge(const View& other) {
  for (const auto& [thread, clock] : other.clocks) raise(clocks[thread], clock);
  for (const auto& [block, epoch] : other.epochs) raise(epochs[block], epoch);
}

bool View::covers(const Access& access, uint32_t block) const {
  if (const auto found = clocks.find(access.thread); found != clocks.end() && access.clock <= found->second)
    return true;
  const auto found = epochs.find(block);
  return found != epochs.end() && access.epoch < found->second;
}

Cell& Shadow::at(size_t offset) {
  std::unique_ptr<Cell[]>& page = pages_[offset / kPage];
  if (page == nullptr) {
    page = std::make_unique<Cell[]>(kPage);
    for (size_t i = 0; i < kPage; ++i) page[i].initialized = initialized_;
  }
  return page[offset % kPage];
}

bool Accessor::after(const Access& earlier) const {
  if (earlier.thread == thread) return true;
  const uint32_t other = earlier.thread / block_threads;
  if (other == block) {
    if (earlier.epoch < epoch) return true;
    if (earlier.thread >= warp_begin && earlier.thread < warp_end &&
        earlier.clock <= clock.lanes[earlier.thread - warp_begin]) {
      return true;
    }
  }
  return clock.view.covers(earlier, other) || block_view.covers(earlier, other);
}

Conflict track(Cell& cell, const Accessor& accessor, uint32_t launch, bool write, bool atomic, const void* place) {
  if (cell.launch != launch) {
    cell.launch = launch;
    cell.has_write = cell.has_read = cell.has_many = false;
    if (cell.more_reads != nullptr) cell.more_reads->clear();
  }
  Conflict conflict;
  if (cell.has_write && !(atomic && cell.atomic_write) && !accessor.after(cell.write)) {
    conflict = {write ? "write after write" : "read after write", cell.write};
  }
  if (!write) {
    add_read(cell, accessor, atomic, place);
    return conflict;
  }
  if (conflict.kind == nullptr) conflict = conflict_with_reads(cell, accessor, atomic);
  cell.write = accessor.access(place);
  cell.has_write = cell.initialized = true;
  cell.atomic_write = atomic;
  cell.has_read = cell.has_many = false;
  if (cell.more_reads != nullptr) cell.more_reads->clear();
  return conflict;
}

}  // namespace pf::simt
