// Memory of a device, handed out in pieces. Asking the driver for memory takes long and stops the device, so small
// pieces are cut from slabs, and what is given back is handed out again.
//
//   MemoryPool pool(runtime, 32 << 20);
//   void* x = pool.allocate(bytes, "x");
//   pool.release(x);                          // by then no launch uses it any more
//
// Best fit; neighbours that are free become one piece again. Used by one thread at a time.
#pragma once
#include <map>
#include <set>

#include "runtime.h"

namespace pf::gpu {

struct PoolStats {
  size_t used = 0;       // by pieces handed out, rounded up
  size_t most_used = 0;  // at any time
  size_t reserved = 0;   // taken from the runtime
};

class MemoryPool {
 public:
  // Requests of more than half a slab get memory of their own; with slabs of 0 bytes all do, so that the emulator knows
  // the bounds of each.
  MemoryPool(Runtime& runtime, size_t slab_bytes) : runtime_(runtime), slab_bytes_(slab_bytes) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // Aligned to 256 bytes, not initialized. Gives free slabs back before it fails as the runtime does.
  void* allocate(size_t bytes, const char* name);
  // std::invalid_argument for what the pool did not hand out; null is nothing.
  void release(void* memory);
  // Gives slabs back of which nothing is in use.
  void trim();

  const PoolStats& stats() const { return stats_; }

 private:
  struct Piece {
    size_t bytes;
    bool free;
    bool begins_slab;
  };
  using Pieces = std::map<char*, Piece>;

  char* reserve(size_t bytes, const char* name);
  void cut(Pieces::iterator piece, size_t bytes);
  void join_with_next(Pieces::iterator piece);
  bool is_whole_slab(Pieces::const_iterator piece) const;

  Runtime& runtime_;
  const size_t slab_bytes_;
  Pieces pieces_;                            // of all slabs, by address
  std::set<std::pair<size_t, char*>> free_;  // by size, then by address
  PoolStats stats_;
};

}  // namespace pf::gpu
