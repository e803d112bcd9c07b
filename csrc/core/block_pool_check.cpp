// The invariants of a BlockPool, spelled out.
#include <algorithm>

#include "core/block_pool.h"

namespace pf {

std::string BlockPool::check_invariants() const {
  int32_t in_use = 0;
  for (const Block& block : blocks_) in_use += block.ref > 0;
  if (free_.size() + in_use != num_blocks()) {
    return std::to_string(free_.size()) + " free + " + std::to_string(in_use) + " held blocks are not the " +
           std::to_string(num_blocks()) + " of the pool";
  }
  int32_t walked = 0, before = kNone;
  for (int32_t b = free_.front(); b != kNone; before = b, b = blocks_[b].next) {
    if (++walked > free_.size()) return "the free list is longer than its size";
    if (blocks_[b].ref != 0) return "block " + std::to_string(b) + " is free and held";
    if (blocks_[b].prev != before) return "block " + std::to_string(b) + " has a wrong neighbour in the free list";
  }
  if (walked != free_.size()) return "the free list is shorter than its size";
  for (int32_t b = first_fresh_; b < num_blocks(); ++b) {
    const bool in_order = b + 1 == num_blocks() || blocks_[b].next == b + 1;
    if (blocks_[b].ref != 0 || blocks_[b].prefix != 0 || !in_order) {
      return "block " + std::to_string(b) + " counts as never taken and is not in its place";
    }
  }
  if (const std::string wrong = check_tables(); !wrong.empty()) return wrong;
  return check_index();
}

std::string BlockPool::check_tables() const {
  std::vector<int32_t> holders(blocks_.size(), 0);
  for (const auto& [id, table] : tables_) {
    for (const int32_t block : table.blocks) ++holders[block];
    if (blocks_for(table.committed) > static_cast<int64_t>(table.blocks.size())) {
      return "table " + std::to_string(id) + " has more committed tokens than blocks";
    }
    for (int64_t i = 1; i < table.committed / block_size_; ++i) {
      const Block &block = blocks_[table.blocks[i]], &parent = blocks_[table.blocks[i - 1]];
      if (block.prefix != 0 && parent.prefix != 0 && block.parent != parent.prefix) {
        return "table " + std::to_string(id) + " has a block whose prefix is not the block before it";
      }
    }
  }
  for (const auto& [id, lease] : leases_) {
    for (const int32_t block : lease.blocks) ++holders[block];
  }
  for (int32_t b = 0; b < num_blocks(); ++b) {
    if (holders[b] != blocks_[b].ref) {
      return "block " + std::to_string(b) + " has ref " + std::to_string(blocks_[b].ref) + " and " +
             std::to_string(holders[b]) + " holders";
    }
  }
  return "";
}

std::string BlockPool::check_index() const {
  int32_t indexed = 0;
  for (int32_t b = 0; b < num_blocks(); ++b) {
    const Block& block = blocks_[b];
    if (block.prefix == 0) continue;
    ++indexed;
    const std::vector<int32_t> chain = index_.bucket(block.hash);
    if (std::ranges::count(chain, b) != 1) return "block " + std::to_string(b) + " is not once in its bucket";
    for (const int32_t other : chain) {
      const Block& twin = blocks_[other];
      const bool same = twin.hash == block.hash && twin.parent == block.parent && twin.extra == block.extra &&
                        std::ranges::equal(tokens_of(other), tokens_of(b));
      if (same != (twin.prefix == block.prefix)) {
        return "blocks " + std::to_string(b) + " and " + std::to_string(other) + " disagree on their prefix";
      }
    }
  }
  if (indexed != index_.size()) return "the index counts " + std::to_string(index_.size()) + " blocks";
  return "";
}

}  // namespace pf
