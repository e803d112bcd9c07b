// The blocks of a pool and the two structures threaded through them: the free list and the prefix index.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/prefix_hash.h"
#include "core/undo_log.h"

namespace pf {

constexpr int32_t kNone = -1;

// What the pool knows of one block. `prefix` names the block's whole content, back to the start of the sequence: two
// indexed blocks have the same prefix if and only if they hold the same tokens after the same tokens under the same
// keys. 0 means that the block is not in the index.
struct Block {
  int32_t prev = kNone, next = kNone;                // neighbours in the free list
  int32_t bucket_prev = kNone, bucket_next = kNone;  // neighbours in the index
  int32_t ref = 0;                                   // tables and leases that hold the block
  uint64_t prefix = 0, parent = 0;                   // parent: prefix of the block before this one, 0 for the first
  int64_t extra = 0;
  Hash128 hash;
};

// Blocks that nobody holds, in the order in which they will be handed out: an intrusive doubly linked list, so that a
// cached block is taken out of its middle in O(1). As blocks keep their content here, it is the prefix cache, too.
class FreeList {
 public:
  FreeList(std::vector<Block>& blocks, UndoLog& undo);
  int32_t size() const { return size_; }
  int32_t front() const { return head_; }
  void push_front(int32_t block);
  void push_back(int32_t block);
  void remove(int32_t block);

 private:
  std::vector<Block>& blocks_;
  UndoLog& undo_;
  int32_t head_ = kNone, tail_ = kNone, size_ = 0;
};

// Finds full blocks by content: chained hashing with the chains threaded through the blocks, so nothing is allocated.
// Several blocks may have the same content; `find` prefers one that is in use, since it takes nothing from the free
// list.
class PrefixIndex {
 public:
  PrefixIndex(std::vector<Block>& blocks, const std::vector<int32_t>& tokens, int32_t block_size, UndoLog& undo);
  int32_t size() const { return size_; }
  int32_t find(const Hash128& hash, uint64_t parent, int64_t extra, std::span<const int32_t> tokens) const;
  void insert(int32_t block, const Hash128& hash, uint64_t parent, int64_t extra);
  void remove(int32_t block);
  // Blocks in the bucket of `hash`, for checks.
  std::vector<int32_t> bucket(const Hash128& hash) const;

 private:
  int32_t& head(const Hash128& hash) { return buckets_[hash.lo & (buckets_.size() - 1)]; }
  std::vector<Block>& blocks_;
  const std::vector<int32_t>& tokens_;
  int32_t block_size_;
  UndoLog& undo_;
  std::vector<int32_t> buckets_;  // first block of each chain; a power of two of them
  int32_t size_ = 0;
  uint64_t last_prefix_ = 0;  // never reused, not even after a rollback
};

}  // namespace pf
