// Which accesses are ordered (happens-before), and for each byte of memory who accessed it last.
//
// The model is that of the PTX and HIP memory models in so far as data races go: two accesses to one byte, one of them
// a write and not both atomic, are a race unless one happens before the other. Order comes from
//   program order of a thread                     its clock
//   a block barrier                               the block's epoch: all accesses of earlier epochs are before later
//   ones a warp barrier                                the lanes' clocks, known to every lane of the warp afterwards
//   fence; atomic  ...  atomic; fence             what the first thread knew at its fence is known to the second
//   store_release  ...  load_acquire              likewise
// Shuffles and votes order nothing. Since a report follows from what is ordered and not from what happened to come
// first, it does not depend on the schedule. Scopes (block, device, system) are not told apart.
// Bulk copies access as actors of their own (bulk.cpp), which only an mbarrier or a wait orders.
//
// Per byte the last write and the reads since then are kept (as FastTrack does: C. Flanagan and S. Freund, 2009). Above
// kMaxReaders unordered reads only their latest epoch and their block stay, which a block barrier suffices to order.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>
#include <map>
#include <memory>
#include <vector>

namespace pf::simt {

constexpr int kMaxWarp = 64;
constexpr size_t kMaxReaders = 64;

struct Access {
  uint32_t thread = 0;  // in the grid
  uint32_t clock = 0;   // of the thread
  uint32_t epoch = 0;   // of its block
  const void* place = nullptr;
};

// Accesses that are known to be before: of a thread up to a clock, of a whole block before an epoch.
struct View {
  std::map<uint32_t, uint32_t> clocks, epochs;
  bool empty() const { return clocks.empty() && epochs.empty(); }
  void clear() {
    clocks.clear();
    epochs.clear();
  }
  void merge(const View& other);
  bool covers(const Access& access, uint32_t block) const;
};

// What happens before the next access of a thread.
struct Clock {
  uint32_t now = 1;
  std::array<uint32_t, kMaxWarp> lanes{};  // the lanes of the own warp
  View view;
  View pending;  // learned from atomics, valid from the next fence on
  View fenced;   // known at the last fence: what an atomic publishes
};

struct Cell {
  Access write, read;
  std::unique_ptr<std::vector<Access>> more_reads;
  uint32_t launch = 0;      // accesses of earlier launches are ordered
  uint32_t many_block = 0;  // of reads that are no longer kept one by one
  uint32_t many_epoch = 0;  // the latest of them
  bool initialized = false, has_write = false, has_read = false, atomic_write = false, atomic_reads = false;
  bool has_many = false, many_blocks = false;
};

// The cells of one range of memory, made when first touched.
class Shadow {
 public:
  void reset(size_t bytes, bool initialized) {
    pages_.clear();
    pages_.resize((bytes + kPage - 1) / kPage);
    initialized_ = initialized;
  }
  Cell& at(size_t offset);

 private:
  static constexpr size_t kPage = 1024;
  std::vector<std::unique_ptr<Cell[]>> pages_;
  bool initialized_ = false;
};

// The thread that accesses, as the tracker sees it.
struct Accessor {
  uint32_t thread, block, epoch;
  uint32_t warp_begin, warp_end;  // threads of its warp, in the grid
  uint32_t block_threads;
  const Clock& clock;
  const View& block_view;
  uint32_t actor, actor_clock;  // whose access it is: the thread's own, or a bulk copy's
  Access access(const void* place) const { return {actor, actor_clock, actor == thread ? epoch : 0, place}; }
  bool after(const Access& earlier) const;
};

struct Conflict {
  const char* kind = nullptr;  // null: none
  Access other;
  bool exact = true;  // false: `other` is one of many reads
};

// Records an access and says what it conflicts with.
Conflict track(Cell& cell, const Accessor& accessor, uint32_t launch, bool write, bool atomic, const void* place);

}  // namespace pf::simt
