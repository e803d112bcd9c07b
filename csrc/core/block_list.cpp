#include "core/block_list.h"

#include <algorithm>
#include <bit>

namespace pf {

FreeList::FreeList(std::vector<Block>& blocks, UndoLog& undo) : blocks_(blocks), undo_(undo) {
  for (int32_t block = 0; block < static_cast<int32_t>(blocks.size()); ++block) push_back(block);
}

void FreeList::push_front(int32_t block) {
  undo_.set(blocks_[block].prev, kNone);
  undo_.set(blocks_[block].next, head_);
  undo_.set(head_ == kNone ? tail_ : blocks_[head_].prev, block);
  undo_.set(head_, block);
  undo_.set(size_, size_ + 1);
}

void FreeList::push_back(int32_t block) {
  undo_.set(blocks_[block].prev, tail_);
  undo_.set(blocks_[block].next, kNone);
  undo_.set(tail_ == kNone ? head_ : blocks_[tail_].next, block);
  undo_.set(tail_, block);
  undo_.set(size_, size_ + 1);
}

void FreeList::remove(int32_t block) {
  const int32_t prev = blocks_[block].prev, next = blocks_[block].next;
  undo_.set(prev == kNone ? head_ : blocks_[prev].next, next);
  undo_.set(next == kNone ? tail_ : blocks_[next].prev, prev);
  undo_.set(blocks_[block].prev, kNone);
  undo_.set(blocks_[block].next, kNone);
  undo_.set(size_, size_ - 1);
}

PrefixIndex::PrefixIndex(std::vector<Block>& blocks, const std::vector<int32_t>& tokens, int32_t block_size,
                         UndoLog& undo)
    : blocks_(blocks),
      tokens_(tokens),
      block_size_(block_size),
      undo_(undo),
      buckets_(std::bit_ceil(std::max<size_t>(blocks.size(), 2)), kNone) {}

int32_t PrefixIndex::find(const Hash128& hash, uint64_t parent, int64_t extra, std::span<const int32_t> tokens) const {
  int32_t found = kNone;
  for (int32_t b = buckets_[hash.lo & (buckets_.size() - 1)]; b != kNone; b = blocks_[b].bucket_next) {
    const Block& block = blocks_[b];
    if (block.hash != hash || block.parent != parent || block.extra != extra) continue;
    if (!std::equal(tokens.begin(), tokens.end(), &tokens_[static_cast<size_t>(b) * block_size_])) continue;
    if (block.ref > 0) return b;
    if (found == kNone) found = b;
  }
  return found;
}

void PrefixIndex::insert(int32_t b, const Hash128& hash, uint64_t parent, int64_t extra) {
  const std::span<const int32_t> tokens(&tokens_[static_cast<size_t>(b) * block_size_], block_size_);
  const int32_t same = find(hash, parent, extra, tokens);
  Block& block = blocks_[b];
  undo_.set(block.prefix, same == kNone ? ++last_prefix_ : blocks_[same].prefix);
  undo_.set(block.parent, parent);
  undo_.set(block.extra, extra);
  undo_.set(block.hash.lo, hash.lo);
  undo_.set(block.hash.hi, hash.hi);
  int32_t& first = head(hash);
  undo_.set(block.bucket_prev, kNone);
  undo_.set(block.bucket_next, first);
  if (first != kNone) undo_.set(blocks_[first].bucket_prev, b);
  undo_.set(first, b);
  undo_.set(size_, size_ + 1);
}

void PrefixIndex::remove(int32_t b) {
  Block& block = blocks_[b];
  undo_.set(block.bucket_prev == kNone ? head(block.hash) : blocks_[block.bucket_prev].bucket_next, block.bucket_next);
  if (block.bucket_next != kNone) undo_.set(blocks_[block.bucket_next].bucket_prev, block.bucket_prev);
  undo_.set(block.bucket_prev, kNone);
  undo_.set(block.bucket_next, kNone);
  undo_.set(block.prefix, 0);
  undo_.set(size_, size_ - 1);
}

std::vector<int32_t> PrefixIndex::bucket(const Hash128& hash) const {
  std::vector<int32_t> chain;
  // Bounded, so that a check of a broken chain ends.
  for (int32_t b = buckets_[hash.lo & (buckets_.size() - 1)]; b != kNone && chain.size() <= blocks_.size();
       b = blocks_[b].bucket_next) {
    chain.push_back(b);
  }
  return chain;
}

}  // namespace pf
