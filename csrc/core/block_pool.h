// Owner of all blocks of a KV cache: which sequence holds which block, which free block still holds which content.
//
//   BlockPool pool(/*num_blocks=*/1024, /*block_size=*/16);
//   pool.open(7);                      // a table named 7 (the caller's own number)
//   pool.adopt(7, prompt);             // take what the prefix cache has of the prompt
//   pool.allocate(7, prompt.size());   // blocks for the rest; empty when they aren't there
//   …compute…
//   pool.commit(7, rest_of_prompt);    // computed and accepted: full blocks enter the prefix index
//   pool.release(7);                   // blocks return to the free list and keep their content until reused
//
// A block takes memory once it has been written. So that memory follows what is in use at once, and not all that was
// ever asked, new tokens take the place of the least recently used content rather than of a block that nobody has
// written yet, as soon as more than `num_kept` blocks hold content for nobody. Content that is missed afterwards shows
// that more is worth keeping: `num_kept` grows by twice of what was missed, up to the whole pool.
//
// The pool knows block ids and token ids only; keys and values live elsewhere. All operations cost O(blocks they
// touch). Not thread-safe. Misuse (an unknown table, a bad count) throws std::invalid_argument and changes nothing.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/block_list.h"

namespace pf {

class BlockPool {
 public:
  using Tokens = std::span<const int32_t>;
  using Keys = std::span<const int64_t>;
  using Hasher = Hash128 (*)(const Hash128& parent, int64_t extra, Tokens tokens);
  struct Match {
    int64_t num_tokens;  // found in the cache, a multiple of the block size
    int32_t num_free;    // of their blocks, how many would be taken from the free list
  };

  // `hasher` is replaced in tests only, to make collisions; `num_kept` is what it is at first.
  BlockPool(int32_t num_blocks, int32_t block_size, Hasher hasher = hash_block, std::optional<int32_t> num_kept = {});
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // --- tables --------------------------------------------------------------------------------------------------------
  // A new empty table. `keys[i]` is what the content of block i depends on beside tokens (0 where the list ends); the
  // key of a block reaches all later blocks through their prefix.
  void open(int64_t table, std::vector<int64_t> keys = {});

  // How much of `tokens` a table with `keys` could adopt now. Changes nothing.
  Match match(Tokens tokens, Keys keys) const;

  // Gives an empty table the cached blocks of the longest prefix of `tokens`; returns the number of tokens.
  int64_t adopt(int64_t table, Tokens tokens);

  // Makes the table able to hold `num_tokens` tokens, all positions from num_committed on its own to write. A shared
  // block among these is replaced by a copy of its committed part (see take_copies). Returns how many blocks of the
  // table are new. All or nothing: empty, and nothing changed, when the pool lacks blocks.
  std::optional<int32_t> allocate(int64_t table, int64_t num_tokens);

  // Appends tokens that were computed and accepted, into blocks made ready by allocate. Full blocks become findable.
  //
  // Within a transaction that plans a step, tokens may be committed that this step will compute: others that are
  // planned after them share their blocks, and a rollback makes nobody trust them. Such blocks are `pending` until the
  // transaction ends, and must not be copied before.
  void commit(int64_t table, Tokens tokens);
  bool pending(int32_t block) const;

  // A new table that shares the committed tokens of `source`. Takes no block.
  void fork(int64_t source, int64_t table);

  // Forgets committed tokens from `num_tokens` on, and blocks without a committed token. Takes no block.
  void truncate(int64_t table, int64_t num_tokens);

  // Gives all blocks back, last one first, so that the beginning of a sequence outlives its end in the cache. With
  // `forget`, blocks that nobody else holds leave the index: their content is not to be trusted.
  void release(int64_t table, bool forget = false);

  // --- leases: a right to blocks that someone outside holds for a while
  // --------------------------------------------------- Counts as one more owner of each block. Blocks must be held or
  // findable. Not inside a transaction.
  int64_t lease(std::span<const int32_t> blocks, double expires);
  // False (counted in num_dropped) when the lease is unknown, over, or of another epoch: late messages are harmless.
  bool release_lease(int64_t lease, int64_t epoch);
  int32_t expire_leases(double now);
  int64_t epoch() const { return epoch_; }
  void next_epoch() { ++epoch_; }
  int64_t num_dropped() const { return num_dropped_; }

  // --- transactions --------------------------------------------------------------------------------------------------
  // `rollback` undoes everything since `begin`, at the cost of what was done, except that it trusts no content that a
  // step of the transaction may have overwritten: a block that was handed out to be written stays out of the index, and
  // a table that had given it back is cut in front of it. So num_committed may be less than it was.
  void begin();
  void commit_transaction();
  void rollback();
  bool in_transaction() const { return undo_.active(); }

  // Pairs (source, destination) to be copied before the next step writes, in this order; the list starts anew.
  std::vector<std::pair<int32_t, int32_t>> take_copies();

  // Forgets all cached content. Tables keep their blocks.
  void clear_index();

  // --- what there is
  // --------------------------------------------------------------------------------------------------
  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t block_size() const { return block_size_; }
  int32_t num_free() const { return free_.size(); }
  int32_t num_indexed() const { return index_.size(); }
  int32_t num_written() const { return first_fresh_; }  // blocks that were ever handed out to be written
  int32_t num_kept() const { return num_kept_; }
  int64_t num_tables() const { return static_cast<int64_t>(tables_.size()); }
  int64_t num_leases() const { return static_cast<int64_t>(leases_.size()); }
  bool contains(int64_t table) const { return tables_.contains(table); }
  const std::vector<int32_t>& blocks(int64_t table) const { return at(table).blocks; }
  int64_t num_committed(int64_t table) const { return at(table).committed; }
  int32_t num_unshared(int64_t table) const;  // blocks that releasing the table would free
  int32_t ref(int32_t block) const;
  bool indexed(int32_t block) const;

  // Empty when all invariants hold, else what is wrong. O(pool): for tests and for idle moments.
  //   free + |{b: ref[b] > 0}| == total · ref[b] == tables and leases that hold b · lists and index are consistent
  std::string check_invariants() const;

 private:
  struct Table {
    std::vector<int32_t> blocks;
    std::vector<int64_t> keys;
    int64_t committed = 0;
    bool fresh = false;  // opened in the transaction under way
  };
  using Tables = std::unordered_map<int64_t, Table>;
  struct Lease {
    std::vector<int32_t> blocks;
    int64_t epoch;
    double expires;
  };

  Table& at(int64_t table);
  const Table& at(int64_t table) const;
  int64_t blocks_for(int64_t num_tokens) const { return (num_tokens + block_size_ - 1) / block_size_; }
  Tokens tokens_of(int32_t block) const {
    return {&tokens_[static_cast<size_t>(block) * block_size_], size_t(block_size_)};
  }
  template <class Visit>
  void walk_prefix(Tokens tokens, Keys keys, Visit&& visit) const;
  int32_t take();
  int32_t oldest_content() const;
  void learn_from_missing(Tokens tokens, const Table& table);
  void hold(int32_t block);
  void give_back(int32_t block);
  void unindex(int32_t block);
  void copy_on_write(Table& table, int64_t index, int32_t num_kept);
  void note_cut(int64_t table, int64_t num_kept);
  void distrust_written();
  void end_transaction();
  void index_block(const Table& table, int64_t index);
  void shrink(Table& table, int64_t num_blocks);
  void drop(const Lease& lease);
  std::string check_tables() const;
  std::string check_index() const;

  const int32_t block_size_;
  const Hasher hasher_;
  UndoLog undo_;
  std::vector<Block> blocks_;
  std::vector<int32_t> tokens_;  // [num_blocks][block_size], valid as far as committed
  FreeList free_;
  PrefixIndex index_;
  int32_t first_fresh_ = 0;  // this block and all after it were never taken; they leave the free list in this order
  int32_t num_kept_;
  std::vector<uint64_t> missed_;  // of content that gave way to spare memory: hashes, each in the place it falls to
  Tables tables_;
  std::unordered_map<int64_t, Lease> leases_;
  int64_t next_lease_ = 1, epoch_ = 1, num_dropped_ = 0;

  // Of the transaction under way: tables opened and closed; tables that gave blocks back, with what they still held of
  // their own; blocks handed out to be written, and filled; copies asked for before it.
  std::vector<int64_t> opened_;
  std::vector<Tables::node_type> closed_;
  std::vector<std::pair<int64_t, int64_t>> cut_;
  std::vector<int32_t> written_;
  std::vector<int32_t> pending_;  // blocks that commit filled
  size_t copies_before_ = 0;
  std::vector<std::pair<int32_t, int32_t>> copies_;
};

}  // namespace pf
