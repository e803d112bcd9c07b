#include "core/block_pool.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace pf {
namespace {

// Content for nobody that is kept before any was missed: a few prompts, and a small share of a large pool.
constexpr int32_t kKeptAtFirst = 128, kKeptShare = 32;

[[noreturn]] void misuse(const std::string& what) { throw std::invalid_argument("block pool: " + what); }

std::string named(int64_t table) { return "table " + std::to_string(table); }

int64_t key_of(BlockPool::Keys keys, size_t index) { return index < keys.size() ? keys[index] : 0; }

size_t checked_count(int32_t num_blocks, int32_t block_size) {
  if (num_blocks < 1) misuse("num_blocks is " + std::to_string(num_blocks) + ", need at least 1");
  if (block_size < 1) misuse("block_size is " + std::to_string(block_size) + ", need at least 1");
  return static_cast<size_t>(num_blocks);
}

}  // namespace

BlockPool::BlockPool(int32_t num_blocks, int32_t block_size, Hasher hasher, std::optional<int32_t> num_kept)
    : block_size_(block_size),
      hasher_(hasher),
      blocks_(checked_count(num_blocks, block_size)),
      tokens_(blocks_.size() * static_cast<size_t>(block_size), kNone),
      free_(blocks_, undo_),
      index_(blocks_, tokens_, block_size, undo_),
      num_kept_(num_kept.value_or(std::max(kKeptAtFirst, num_blocks / kKeptShare))),
      missed_(std::bit_ceil(blocks_.size()), 0) {}

BlockPool::Table& BlockPool::at(int64_t table) {
  const auto found = tables_.find(table);
  if (found == tables_.end()) misuse(named(table) + " is not open");
  return found->second;
}

const BlockPool::Table& BlockPool::at(int64_t table) const { return const_cast<BlockPool*>(this)->at(table); }

// --- blocks
// -----------------------------------------------------------------------------------------------------------

int32_t BlockPool::take() {
  int32_t block = free_.front();
  if (block >= first_fresh_) {
    if (const int32_t oldest = oldest_content(); oldest != kNone) {
      block = oldest;
      if (blocks_[block].prefix != 0) missed_[blocks_[block].hash.lo & (missed_.size() - 1)] = blocks_[block].hash.lo;
    } else {
      undo_.set(first_fresh_, block + 1);
    }
  }
  if (blocks_[block].prefix != 0) unindex(block);
  if (undo_.active()) written_.push_back(block);
  hold(block);
  return block;
}

// The block to reuse before a fresh one, which is at the front of the free list: all with content stand behind the
// fresh ones, the least recently used first. None if there are few.
int32_t BlockPool::oldest_content() const {
  const int32_t num_fresh = num_blocks() - first_fresh_;
  return free_.size() - num_fresh > num_kept_ ? blocks_.back().next : kNone;
}

void BlockPool::hold(int32_t block) {
  if (blocks_[block].ref == 0) free_.remove(block);
  undo_.set(blocks_[block].ref, blocks_[block].ref + 1);
}

void BlockPool::give_back(int32_t block) {
  undo_.set(blocks_[block].ref, blocks_[block].ref - 1);
  if (blocks_[block].ref > 0) return;
  // What can't be found again is reused first, while it is still in the processor's cache.
  if (blocks_[block].prefix != 0) {
    free_.push_back(block);
  } else {
    free_.push_front(block);
  }
}

void BlockPool::unindex(int32_t block) {
  index_.remove(block);
  if (undo_.active()) written_.push_back(block);
}

// --- tables
// -----------------------------------------------------------------------------------------------------------

void BlockPool::open(int64_t table, std::vector<int64_t> keys) {
  if (!tables_.try_emplace(table, Table{{}, std::move(keys), 0, undo_.active()}).second) {
    misuse(named(table) + " is already open");
  }
  if (undo_.active()) opened_.push_back(table);
}

template <class Visit>
void BlockPool::walk_prefix(Tokens tokens, Keys keys, Visit&& visit) const {
  Hash128 hash;
  uint64_t parent = 0;
  const size_t size = static_cast<size_t>(block_size_);
  for (size_t i = 0; (i + 1) * size <= tokens.size(); ++i) {
    const Tokens own = tokens.subspan(i * size, size);
    hash = hasher_(hash, key_of(keys, i), own);
    const int32_t block = index_.find(hash, parent, key_of(keys, i), own);
    if (block == kNone) return;
    parent = blocks_[block].prefix;
    visit(block);
  }
}

BlockPool::Match BlockPool::match(Tokens tokens, Keys keys) const {
  Match match{0, 0};
  walk_prefix(tokens, keys, [&](int32_t block) {
    match.num_tokens += block_size_;
    match.num_free += blocks_[block].ref == 0;
  });
  return match;
}

int64_t BlockPool::adopt(int64_t id, Tokens tokens) {
  Table& table = at(id);
  if (!table.blocks.empty()) misuse(named(id) + " has blocks already; only an empty table adopts a prefix");
  walk_prefix(tokens, table.keys, [&](int32_t block) {
    hold(block);
    undo_.push_back(table.blocks, block);
  });
  undo_.set(table.committed, static_cast<int64_t>(table.blocks.size()) * block_size_);
  learn_from_missing(tokens, table);
  return table.committed;
}

// `table` has adopted what there is of `tokens`. Blocks that would have followed had they not given way count once.
void BlockPool::learn_from_missing(Tokens tokens, const Table& table) {
  const size_t size = static_cast<size_t>(block_size_), first = table.blocks.size();
  Hash128 hash = first == 0 ? Hash128{} : blocks_[table.blocks.back()].hash;
  for (size_t i = first; (i + 1) * size <= tokens.size(); ++i) {
    hash = hasher_(hash, key_of(table.keys, i), tokens.subspan(i * size, size));
    uint64_t& missed = missed_[hash.lo & (missed_.size() - 1)];
    if (missed != hash.lo) return;
    missed = 0;
    num_kept_ = std::min(num_kept_ + 2, num_blocks());
  }
}

std::optional<int32_t> BlockPool::allocate(int64_t id, int64_t num_tokens) {
  Table& table = at(id);
  if (num_tokens < table.committed) {
    misuse(named(id) + " holds " + std::to_string(table.committed) + " tokens, can't be made ready for " +
           std::to_string(num_tokens) + "; truncate it");
  }
  const int64_t wanted = blocks_for(num_tokens), held = static_cast<int64_t>(table.blocks.size());
  const int64_t first_written = table.committed / block_size_;
  int64_t needed = std::max<int64_t>(wanted - held, 0);
  if (num_tokens > table.committed) {
    for (int64_t i = first_written; i < std::min(wanted, held); ++i) needed += blocks_[table.blocks[i]].ref > 1;
  }
  if (needed > free_.size()) return std::nullopt;

  if (num_tokens > table.committed) {
    for (int64_t i = first_written; i < std::min(wanted, held); ++i) {
      const int32_t kept = i == first_written ? static_cast<int32_t>(table.committed % block_size_) : 0;
      if (blocks_[table.blocks[i]].ref > 1) {
        note_cut(id, table.committed);
        copy_on_write(table, i, kept);
      } else if (blocks_[table.blocks[i]].prefix != 0) {
        unindex(table.blocks[i]);  // it was shared when it was cut, so it kept its place for the others
      }
    }
  }
  for (int64_t i = held; i < wanted; ++i) undo_.push_back(table.blocks, take());
  return static_cast<int32_t>(needed);
}

void BlockPool::copy_on_write(Table& table, int64_t index, int32_t num_kept) {
  const int32_t source = table.blocks[index], copy = take();
  if (num_kept > 0) {
    std::copy_n(tokens_of(source).begin(), num_kept, &tokens_[static_cast<size_t>(copy) * block_size_]);
    copies_.emplace_back(source, copy);
  }
  undo_.assign(table.blocks, static_cast<uint32_t>(index), copy);
  give_back(source);
}

void BlockPool::commit(int64_t id, Tokens tokens) {
  Table& table = at(id);
  const int64_t end = table.committed + static_cast<int64_t>(tokens.size());
  if (blocks_for(end) > static_cast<int64_t>(table.blocks.size())) {
    misuse(named(id) + " has no blocks for " + std::to_string(end) + " tokens; allocate them first");
  }
  for (int64_t i = table.committed / block_size_; i < blocks_for(end) && !tokens.empty(); ++i) {
    const Block& block = blocks_[table.blocks[i]];
    if (block.ref > 1 || block.prefix != 0) {
      misuse(named(id) + " would write into a shared or cached block; allocate makes a copy of it");
    }
  }
  for (const int32_t token : tokens) {
    const int64_t position = table.committed, index = position / block_size_;
    const size_t slot = static_cast<size_t>(table.blocks[index]) * block_size_ + position % block_size_;
    undo_.set(tokens_[slot], token);
    undo_.set(table.committed, position + 1);
    if ((position + 1) % block_size_ != 0) continue;
    index_block(table, index);
    if (undo_.active()) pending_.push_back(table.blocks[index]);
  }
}

bool BlockPool::pending(int32_t block) const { return std::ranges::find(pending_, block) != pending_.end(); }

// A block can be found only through the one before it; once that has left the index (clear_index, a failed step), what
// follows it in this table stays out as well.
void BlockPool::index_block(const Table& table, int64_t index) {
  const int32_t block = table.blocks[index];
  Hash128 hash;
  uint64_t parent = 0;
  if (index > 0) {
    const Block& before = blocks_[table.blocks[index - 1]];
    if (before.prefix == 0) return;
    hash = before.hash;
    parent = before.prefix;
  }
  const int64_t extra = key_of(table.keys, static_cast<size_t>(index));
  index_.insert(block, hasher_(hash, extra, tokens_of(block)), parent, extra);
}

void BlockPool::fork(int64_t source_id, int64_t id) {
  at(source_id);
  open(id, at(source_id).keys);
  const Table& source = at(source_id);
  Table& table = at(id);
  for (int64_t i = 0; i < blocks_for(source.committed); ++i) {
    hold(source.blocks[i]);
    undo_.push_back(table.blocks, source.blocks[i]);
  }
  undo_.set(table.committed, source.committed);
}

void BlockPool::truncate(int64_t id, int64_t num_tokens) {
  Table& table = at(id);
  if (num_tokens < 0 || num_tokens > table.committed) {
    misuse(named(id) + " holds " + std::to_string(table.committed) + " tokens, can't be cut to " +
           std::to_string(num_tokens));
  }
  note_cut(id, num_tokens);
  shrink(table, blocks_for(num_tokens));
  if (num_tokens % block_size_ != 0 && num_tokens < table.committed) {
    const int32_t last = table.blocks.back();
    if (blocks_[last].ref == 1 && blocks_[last].prefix != 0) unindex(last);
  }
  undo_.set(table.committed, num_tokens);
}

void BlockPool::shrink(Table& table, int64_t num_blocks) {
  while (static_cast<int64_t>(table.blocks.size()) > num_blocks) {
    const int32_t block = table.blocks.back();
    undo_.pop_back(table.blocks);
    give_back(block);
  }
}

void BlockPool::release(int64_t id, bool forget) {
  Table& table = at(id);
  if (forget) {
    for (const int32_t block : table.blocks) {
      if (blocks_[block].ref == 1 && blocks_[block].prefix != 0) unindex(block);
    }
  }
  note_cut(id, table.committed);
  shrink(table, 0);
  undo_.set(table.committed, 0);
  Tables::node_type node = tables_.extract(id);
  if (undo_.active()) closed_.push_back(std::move(node));
}

// --- leases
// -----------------------------------------------------------------------------------------------------------

int64_t BlockPool::lease(std::span<const int32_t> blocks, double expires) {
  if (undo_.active()) misuse("leases are given and ended outside transactions only");
  for (const int32_t block : blocks) {
    if (ref(block) == 0 && !indexed(block)) misuse("block " + std::to_string(block) + " holds nothing to lease");
  }
  for (const int32_t block : blocks) hold(block);
  leases_.emplace(next_lease_, Lease{{blocks.begin(), blocks.end()}, epoch_, expires});
  return next_lease_++;
}

bool BlockPool::release_lease(int64_t id, int64_t epoch) {
  if (undo_.active()) misuse("leases are given and ended outside transactions only");
  const auto found = leases_.find(id);
  if (found == leases_.end() || found->second.epoch != epoch) {
    ++num_dropped_;
    return false;
  }
  drop(found->second);
  leases_.erase(found);
  return true;
}

int32_t BlockPool::expire_leases(double now) {
  if (undo_.active()) misuse("leases are given and ended outside transactions only");
  return static_cast<int32_t>(std::erase_if(leases_, [&](const auto& entry) {
    if (entry.second.expires > now) return false;
    drop(entry.second);
    return true;
  }));
}

void BlockPool::drop(const Lease& lease) {
  for (auto block = lease.blocks.rbegin(); block != lease.blocks.rend(); ++block) give_back(*block);
}

// --- transactions
// -----------------------------------------------------------------------------------------------------

void BlockPool::begin() {
  if (undo_.active()) misuse("a transaction is already under way");
  undo_.begin();
  copies_before_ = copies_.size();
}

void BlockPool::commit_transaction() {
  if (!undo_.active()) misuse("no transaction is under way");
  undo_.commit();
  for (const int64_t id : opened_) {
    if (const auto found = tables_.find(id); found != tables_.end()) found->second.fresh = false;
  }
  end_transaction();
}

void BlockPool::rollback() {
  if (!undo_.active()) misuse("no transaction is under way");
  undo_.rollback();
  for (const int64_t id : opened_) {
    if (const auto found = tables_.find(id); found != tables_.end() && found->second.fresh) tables_.erase(found);
  }
  for (Tables::node_type& node : closed_) {
    if (!node.mapped().fresh) tables_.insert(std::move(node));
  }
  copies_.resize(std::min(copies_.size(), copies_before_));
  distrust_written();
  end_transaction();
}

void BlockPool::end_transaction() {
  opened_.clear();
  closed_.clear();
  cut_.clear();
  written_.clear();
  pending_.clear();
}

void BlockPool::note_cut(int64_t id, int64_t num_kept) {
  if (undo_.active()) cut_.emplace_back(id, num_kept);
}

void BlockPool::distrust_written() {
  std::ranges::sort(written_);
  for (const int32_t block : written_) {
    if (blocks_[block].prefix != 0) index_.remove(block);
  }
  for (const auto& [id, num_kept] : cut_) {
    const auto found = tables_.find(id);
    if (found == tables_.end()) continue;
    const Table& table = found->second;
    const auto is_written = [&](int32_t block) { return std::ranges::binary_search(written_, block); };
    const auto first = std::ranges::find_if(table.blocks, is_written) - table.blocks.begin();
    truncate(id, std::min({table.committed, num_kept, static_cast<int64_t>(first) * block_size_}));
  }
}

std::vector<std::pair<int32_t, int32_t>> BlockPool::take_copies() {
  copies_before_ = 0;
  return std::exchange(copies_, {});
}

void BlockPool::clear_index() {
  for (int32_t block = 0; block < num_blocks(); ++block) {
    if (blocks_[block].prefix != 0) unindex(block);
  }
}

// --- what there is
// ----------------------------------------------------------------------------------------------------

int32_t BlockPool::num_unshared(int64_t table) const {
  const std::vector<int32_t>& held = at(table).blocks;
  return static_cast<int32_t>(std::ranges::count_if(held, [&](int32_t block) { return blocks_[block].ref == 1; }));
}

int32_t BlockPool::ref(int32_t block) const {
  if (block < 0 || block >= num_blocks()) misuse("there is no block " + std::to_string(block));
  return blocks_[block].ref;
}

bool BlockPool::indexed(int32_t block) const { return ref(block) >= 0 && blocks_[block].prefix != 0; }

}  // namespace pf
