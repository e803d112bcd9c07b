#include "core/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace {

using pf::BlockPool;
using Ids = std::vector<int32_t>;
using Pairs = std::vector<std::pair<int32_t, int32_t>>;

Ids range(int32_t begin, int32_t end) {
  Ids ids(static_cast<size_t>(end - begin));
  std::iota(ids.begin(), ids.end(), begin);
  return ids;
}

// Opens a table and computes `tokens` into it.
void fill(BlockPool& pool, int64_t table, const Ids& tokens, std::vector<int64_t> keys = {}) {
  pool.open(table, std::move(keys));
  ASSERT_TRUE(pool.allocate(table, static_cast<int64_t>(tokens.size())));
  pool.commit(table, tokens);
}

#define EXPECT_SOUND(pool) EXPECT_EQ((pool).check_invariants(), "")

TEST(BlockPool, FreedBlocksAreThePrefixCache) {
  BlockPool pool(8, 4);
  fill(pool, 1, range(0, 10));
  const Ids held = pool.blocks(1);
  EXPECT_EQ(held.size(), 3u);
  EXPECT_EQ(pool.num_indexed(), 2);  // the third block isn't full
  pool.release(1);
  EXPECT_EQ(pool.num_free(), 8);

  EXPECT_EQ(pool.match(range(0, 10), {}).num_tokens, 8);
  EXPECT_EQ(pool.match(range(0, 10), {}).num_free, 2);
  EXPECT_EQ(pool.match(range(0, 7), {}).num_tokens, 4);
  EXPECT_EQ(pool.match(range(1, 9), {}).num_tokens, 0);
  pool.open(2);
  EXPECT_EQ(pool.adopt(2, range(0, 10)), 8);
  EXPECT_EQ(pool.blocks(2), Ids({held[0], held[1]}));
  EXPECT_EQ(pool.match(range(0, 10), {}).num_free, 0);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, EvictsLeastRecentlyUsedAndTheEndOfASequenceFirst) {
  BlockPool pool(4, 2);
  fill(pool, 1, range(0, 4));
  fill(pool, 2, range(10, 14));
  pool.release(1);
  pool.release(2);
  fill(pool, 3, Ids{50, 51});  // takes one block: the second of table 1
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 2);
  EXPECT_EQ(pool.match(range(10, 14), {}).num_tokens, 4);
  fill(pool, 4, Ids{60, 61});  // and now the first
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 0);
  EXPECT_EQ(pool.match(range(10, 14), {}).num_tokens, 4);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, UnfindableBlocksAreReusedFirst) {
  BlockPool pool(4, 4);
  fill(pool, 1, range(0, 4));
  fill(pool, 2, range(10, 12));
  const int32_t partial = pool.blocks(2)[0];
  pool.release(1);
  pool.release(2);
  fill(pool, 3, Ids{7});
  EXPECT_EQ(pool.blocks(3)[0], partial);
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 4);
}

TEST(BlockPool, ContentGivesWayBeforeSpareMemoryIsTaken) {
  BlockPool pool(16, 2, pf::hash_block, /*num_kept=*/2);
  fill(pool, 1, range(0, 6));
  EXPECT_EQ(pool.num_written(), 3);
  pool.release(1);
  fill(pool, 2, Ids{20, 21});  // the end of table 1 gives way, since three blocks hold content for nobody
  EXPECT_EQ(pool.num_written(), 3);
  EXPECT_EQ(pool.match(range(0, 6), {}).num_tokens, 4);
  fill(pool, 3, Ids{30, 31});  // two are kept
  EXPECT_EQ(pool.num_written(), 4);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, MissedContentShowsThatMoreIsWorthKeeping) {
  BlockPool pool(16, 2, pf::hash_block, /*num_kept=*/0);
  const auto answer = [&](int64_t table, const Ids& tokens) {
    pool.open(table);
    const int64_t found = pool.adopt(table, tokens);
    EXPECT_TRUE(pool.allocate(table, static_cast<int64_t>(tokens.size())));
    pool.commit(table, Ids(tokens.begin() + found, tokens.end()));
    pool.release(table);
    return found;
  };
  EXPECT_EQ(answer(1, range(0, 4)), 0);
  EXPECT_EQ(answer(2, range(10, 14)), 0);
  EXPECT_EQ(pool.num_written(), 2);
  EXPECT_EQ(answer(3, range(0, 4)), 0);  // missed
  EXPECT_EQ(pool.num_kept(), 4);
  EXPECT_EQ(answer(4, range(10, 14)), 4);
  EXPECT_EQ(answer(5, range(0, 4)), 4);
  EXPECT_EQ(answer(6, range(20, 24)), 0);
  EXPECT_EQ(answer(7, range(30, 34)), 0);  // six blocks would hold content for nobody
  EXPECT_EQ(pool.num_written(), 6);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, ARollbackGivesSpareMemoryBack) {
  BlockPool pool(8, 2);
  fill(pool, 1, range(0, 4));
  pool.begin();
  fill(pool, 2, range(10, 16));
  EXPECT_EQ(pool.num_written(), 5);
  pool.rollback();
  EXPECT_EQ(pool.num_written(), 2);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, WhatAStepWillComputeIsSharedWithinIt) {
  BlockPool pool(8, 4);
  pool.begin();
  fill(pool, 1, range(0, 10));
  pool.open(2);
  EXPECT_EQ(pool.adopt(2, range(0, 9)), 8);
  EXPECT_TRUE(pool.pending(pool.blocks(2)[1]));
  pool.rollback();
  EXPECT_EQ(pool.match(range(0, 9), {}).num_tokens, 0);
  EXPECT_EQ(pool.num_free(), 8);
  EXPECT_SOUND(pool);

  pool.begin();
  fill(pool, 1, range(0, 10));
  pool.commit_transaction();
  EXPECT_FALSE(pool.pending(pool.blocks(1)[1]));
  EXPECT_EQ(pool.match(range(0, 9), {}).num_tokens, 8);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, KeysSeparateContents) {
  BlockPool pool(16, 2);
  fill(pool, 1, range(0, 6), {5});
  EXPECT_EQ(pool.match(range(0, 6), {}).num_tokens, 0);
  EXPECT_EQ(pool.match(range(0, 6), std::vector<int64_t>{6}).num_tokens, 0);
  EXPECT_EQ(pool.match(range(0, 6), std::vector<int64_t>{5}).num_tokens, 6);
  // A key of a later block (an image there) leaves what comes before it shared.
  EXPECT_EQ(pool.match(range(0, 6), std::vector<int64_t>{5, 0, 9}).num_tokens, 4);
  fill(pool, 2, range(0, 6), {5, 0, 9});
  EXPECT_EQ(pool.match(range(0, 6), std::vector<int64_t>{5, 0, 9}).num_tokens, 6);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, ForkSharesAndAppendCopies) {
  BlockPool pool(8, 4);
  fill(pool, 1, range(0, 6));
  pool.fork(1, 2);
  EXPECT_EQ(pool.blocks(1), pool.blocks(2));
  EXPECT_EQ(pool.num_free(), 6);
  EXPECT_EQ(pool.num_unshared(1), 0);
  EXPECT_TRUE(pool.take_copies().empty());

  const int32_t shared = pool.blocks(1)[1];
  EXPECT_THROW(pool.commit(2, Ids{9}), std::invalid_argument);
  ASSERT_TRUE(pool.allocate(2, 7));
  EXPECT_EQ(pool.take_copies(), Pairs({{shared, pool.blocks(2)[1]}}));
  ASSERT_TRUE(pool.allocate(1, 7));  // sole owner by now
  EXPECT_TRUE(pool.take_copies().empty());
  EXPECT_EQ(pool.blocks(1)[1], shared);
  pool.commit(1, Ids{100, 101});
  pool.commit(2, Ids{200, 201});
  Ids first = range(0, 6), second = range(0, 6);
  first.insert(first.end(), {100, 101});
  second.insert(second.end(), {200, 201});
  EXPECT_EQ(pool.match(first, {}).num_tokens, 8);
  EXPECT_EQ(pool.match(second, {}).num_tokens, 8);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, TruncateTakesTheHashOfACutBlockUnlessShared) {
  BlockPool pool(8, 4);
  fill(pool, 1, range(0, 8));
  pool.fork(1, 2);
  pool.truncate(2, 6);
  EXPECT_EQ(pool.match(range(0, 8), {}).num_tokens, 8);  // table 1 still has it
  pool.release(1);
  ASSERT_TRUE(pool.allocate(2, 7));  // now alone, about to write into it
  EXPECT_TRUE(pool.take_copies().empty());
  EXPECT_EQ(pool.match(range(0, 8), {}).num_tokens, 4);
  pool.commit(2, Ids{77, 78});
  EXPECT_EQ(pool.match(Ids{0, 1, 2, 3, 4, 5, 77, 78}, {}).num_tokens, 8);

  pool.truncate(2, 7);  // not shared: gone at once
  EXPECT_EQ(pool.match(Ids{0, 1, 2, 3, 4, 5, 77, 78}, {}).num_tokens, 4);
  pool.truncate(2, 4);  // a whole block: returned, nothing cut
  EXPECT_EQ(pool.blocks(2).size(), 1u);
  EXPECT_EQ(pool.match(range(0, 8), {}).num_tokens, 4);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, AllocateIsAllOrNothing) {
  BlockPool pool(4, 4);
  fill(pool, 1, range(0, 6));
  pool.fork(1, 2);
  EXPECT_FALSE(pool.allocate(2, 17));  // three blocks and a copy
  EXPECT_EQ(pool.blocks(2), pool.blocks(1));
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_TRUE(pool.take_copies().empty());
  EXPECT_TRUE(pool.allocate(2, 12));
  EXPECT_SOUND(pool);
}

TEST(BlockPool, MisuseThrowsAndChangesNothing) {
  BlockPool pool(4, 4);
  fill(pool, 1, range(0, 6));
  EXPECT_THROW(pool.open(1), std::invalid_argument);
  EXPECT_THROW(pool.release(2), std::invalid_argument);
  EXPECT_THROW(pool.blocks(-1), std::invalid_argument);
  EXPECT_THROW(pool.fork(3, 4), std::invalid_argument);
  EXPECT_THROW(pool.fork(1, 1), std::invalid_argument);
  EXPECT_THROW(pool.truncate(1, 7), std::invalid_argument);
  EXPECT_THROW(pool.truncate(1, -1), std::invalid_argument);
  EXPECT_THROW(pool.allocate(1, 5), std::invalid_argument);
  EXPECT_THROW(pool.commit(1, range(0, 3)), std::invalid_argument);
  EXPECT_THROW(pool.adopt(1, range(0, 6)), std::invalid_argument);
  EXPECT_THROW(pool.rollback(), std::invalid_argument);
  EXPECT_THROW(pool.lease(Ids{3}, 1.0), std::invalid_argument);
  EXPECT_THROW(pool.lease(Ids{4}, 1.0), std::invalid_argument);
  EXPECT_THROW(BlockPool(0, 4), std::invalid_argument);
  EXPECT_EQ(pool.num_committed(1), 6);
  EXPECT_EQ(pool.num_tables(), 1);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, LeasesAreOwners) {
  BlockPool pool(4, 2);
  fill(pool, 1, range(0, 4));
  const int64_t lease = pool.lease(pool.blocks(1), 10.0);
  pool.release(1);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_SOUND(pool);
  EXPECT_FALSE(pool.release_lease(lease, pool.epoch() + 1));
  EXPECT_FALSE(pool.release_lease(lease + 1, pool.epoch()));
  EXPECT_EQ(pool.num_dropped(), 2);
  EXPECT_TRUE(pool.release_lease(lease, pool.epoch()));
  EXPECT_FALSE(pool.release_lease(lease, pool.epoch()));
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 4);

  pool.open(2);
  pool.adopt(2, range(0, 4));
  pool.lease(pool.blocks(2), 10.0);
  pool.release(2);
  EXPECT_EQ(pool.expire_leases(9.0), 0);
  EXPECT_EQ(pool.expire_leases(10.0), 1);
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, RollbackRestoresTablesButNotOverwrittenContent) {
  BlockPool pool(4, 2);
  fill(pool, 1, range(0, 4));
  const Ids held = pool.blocks(1);
  fill(pool, 2, range(10, 14));
  pool.release(2);
  pool.begin();
  pool.release(1);
  fill(pool, 3, range(20, 24));  // reuses the blocks that still held 10…13
  pool.rollback();
  EXPECT_EQ(pool.num_tables(), 1);
  EXPECT_EQ(pool.blocks(1), held);
  EXPECT_EQ(pool.num_committed(1), 4);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 4);
  EXPECT_EQ(pool.match(range(10, 14), {}).num_tokens, 0);  // a failed step may have written there
  EXPECT_EQ(pool.match(range(20, 24), {}).num_tokens, 0);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, RollbackCutsATableInFrontOfBlocksThatOthersMayHaveWritten) {
  BlockPool pool(4, 2);
  fill(pool, 1, range(0, 4));
  fill(pool, 2, range(10, 13));
  const Ids held = pool.blocks(2);
  pool.begin();
  pool.release(2);
  pool.open(3);
  ASSERT_TRUE(pool.allocate(3, 2));  // gets the half-filled block of table 2
  EXPECT_EQ(pool.blocks(3)[0], held[1]);
  pool.rollback();
  EXPECT_EQ(pool.num_committed(2), 2);
  EXPECT_EQ(pool.blocks(2), Ids({held[0]}));
  EXPECT_EQ(pool.match(range(10, 13), {}).num_tokens, 2);
  EXPECT_SOUND(pool);
}

TEST(BlockPool, RollbackCutsATableWhoseSharedBlockWasHandedOn) {
  BlockPool pool(3, 2);
  fill(pool, 1, Ids{1});
  pool.fork(1, 2);
  pool.begin();
  ASSERT_TRUE(pool.allocate(1, 2));  // copies the shared block
  pool.release(2);                   // frees the original
  fill(pool, 3, Ids{5, 6});          // writes into it
  pool.rollback();
  EXPECT_EQ(pool.num_committed(1), 0);
  EXPECT_EQ(pool.num_committed(2), 0);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_TRUE(pool.take_copies().empty());
  EXPECT_SOUND(pool);
}

TEST(BlockPool, ClearIndexForgetsButKeepsTables) {
  BlockPool pool(4, 2);
  fill(pool, 1, range(0, 4));
  pool.clear_index();
  EXPECT_EQ(pool.num_indexed(), 0);
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 0);
  ASSERT_TRUE(pool.allocate(1, 6));
  pool.commit(1, Ids{4, 5});
  EXPECT_EQ(pool.num_indexed(), 0);  // unreachable, so not indexed
  EXPECT_SOUND(pool);
}

TEST(BlockPool, ForgottenBlocksAreNotFound) {
  BlockPool pool(8, 2);
  fill(pool, 1, range(0, 4));
  pool.fork(1, 2);
  pool.truncate(2, 2);
  pool.release(1, /*forget=*/true);
  EXPECT_EQ(pool.match(range(0, 4), {}).num_tokens, 2);  // only what nobody else holds
  EXPECT_SOUND(pool);
}

// --- random operations against a naive model
// ---------------------------------------------------------------------------

// What the pool should hold: each table's tokens, and the key they were computed under. That shared and cached blocks
// hold the right content is seen by playing the device, too: reading a table back must give what its tokens would
// compute.
struct Sequence {
  Ids tokens;
  int64_t key = 0;

  // Stands for keys and values: like them, the entry of a position depends on all tokens up to it.
  std::vector<uint64_t> computed() const {
    std::vector<uint64_t> entries;
    uint64_t state = 1 + static_cast<uint64_t>(key);
    for (const int32_t token : tokens) {
      entries.push_back(state = state * 6364136223846793005u + static_cast<uint64_t>(token) + 1);
    }
    return entries;
  }
};

// All content goes to four buckets, so that lookups meet collisions at every turn.
pf::Hash128 weak_hash(const pf::Hash128&, int64_t, BlockPool::Tokens tokens) {
  return {static_cast<uint64_t>(tokens[0] & 1), static_cast<uint64_t>(tokens[0] & 2)};
}

// How often the walks met the cases worth meeting.
struct Coverage {
  int adopted = 0, copied = 0, refused = 0, rolled_back = 0, cut = 0;
};

void walk(int seed, bool weak, Coverage& coverage) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  const int num_blocks = 4 + draw(12), block_size = 1 + draw(4);
  BlockPool pool(num_blocks, block_size, weak ? weak_hash : pf::hash_block, draw(2) ? 128 : draw(num_blocks));
  std::map<int64_t, Sequence> model, saved;
  std::set<int64_t> touched;  // in the transaction under way
  std::vector<std::vector<uint64_t>> cache(static_cast<size_t>(num_blocks),
                                           std::vector<uint64_t>(block_size));  // what the "device" holds in each block
  std::vector<int64_t> leases;
  int64_t next_table = 0;

  const auto pick = [&]() -> int64_t {
    if (model.empty()) return -1;
    return std::next(model.begin(), draw(static_cast<int>(model.size())))->first;
  };
  const auto run_copies = [&] {
    for (const auto& [source, destination] : pool.take_copies()) {
      cache[destination] = cache[source];
      ++coverage.copied;
    }
  };
  const auto entry = [&](int64_t table, size_t position) -> uint64_t& {
    return cache[static_cast<size_t>(pool.blocks(table)[position / block_size])][position % block_size];
  };

  for (int step = 0; step < 2000; ++step) {
    const int64_t table = pick();
    const int action = model.size() > 6 ? 7 : draw(11);
    if (action >= 2 && action <= 7 && action != 5) touched.insert(table);
    switch (action) {
      case 0:
      case 1: {  // a new sequence: adopt what the cache has, then compute the rest
        Ids tokens(static_cast<size_t>(1 + draw(4 * block_size)));
        for (int32_t& token : tokens) token = draw(3);
        const int64_t id = next_table++;
        const std::vector<int64_t> keys{draw(2)};
        const BlockPool::Match match = pool.match(tokens, keys);
        pool.open(id, keys);
        ASSERT_EQ(pool.adopt(id, tokens), match.num_tokens);
        coverage.adopted += match.num_tokens > 0;
        model[id] = {Ids(tokens.begin(), tokens.begin() + match.num_tokens), keys[0]};
        break;
      }
      case 2:
      case 3:
      case 4: {  // append
        if (table < 0) break;
        Ids tokens(static_cast<size_t>(1 + draw(2 * block_size)));
        for (int32_t& token : tokens) token = draw(3);
        Sequence longer = model[table];
        const size_t begin = longer.tokens.size();
        longer.tokens.insert(longer.tokens.end(), tokens.begin(), tokens.end());
        const int free_before = pool.num_free();
        if (!pool.allocate(table, static_cast<int64_t>(longer.tokens.size()))) {
          ++coverage.refused;
          ASSERT_EQ(pool.num_free(), free_before);
          break;
        }
        run_copies();
        const std::vector<uint64_t> computed = longer.computed();
        for (size_t i = begin; i < computed.size(); ++i) entry(table, i) = computed[i];
        if (draw(4) == 0) break;  // drafts that were computed and not accepted
        pool.commit(table, tokens);
        model[table] = longer;
        break;
      }
      case 5:  // fork
        if (table < 0) break;
        pool.fork(table, next_table);
        model[next_table++] = model[table];
        break;
      case 6:  // truncate
        if (table < 0) break;
        {
          Ids& known = model[table].tokens;
          known.resize(static_cast<size_t>(draw(static_cast<int>(known.size()) + 1)));
          const int free_before = pool.num_free();
          pool.truncate(table, static_cast<int64_t>(known.size()));
          ASSERT_GE(pool.num_free(), free_before);
        }
        break;
      case 7:
        if (table < 0) break;
        pool.release(table, draw(4) == 0);
        model.erase(table);
        break;
      case 8:
        if (pool.in_transaction() || table < 0) break;
        {
          const auto full = static_cast<std::ptrdiff_t>(model[table].tokens.size() / block_size);
          const Ids& held = pool.blocks(table);
          leases.push_back(pool.lease(Ids(held.begin(), held.begin() + full), 0.0));
        }
        break;
      case 9:
        if (pool.in_transaction() || leases.empty()) break;
        ASSERT_TRUE(pool.release_lease(leases.back(), pool.epoch()));
        leases.pop_back();
        break;
      case 10:  // a step that succeeds or fails
        if (!pool.in_transaction()) {
          pool.begin();
          saved = model;
          touched.clear();
        } else if (draw(2) == 0) {
          pool.commit_transaction();
        } else {
          pool.rollback();
          for (auto& [id, sequence] : saved) {  // restored, except where blocks had been given back and reused
            ASSERT_TRUE(pool.contains(id));
            const auto committed = static_cast<size_t>(pool.num_committed(id));
            ASSERT_LE(committed, sequence.tokens.size());
            if (!touched.contains(id)) {
              ASSERT_EQ(committed, sequence.tokens.size());
            }
            coverage.cut += committed < sequence.tokens.size();
            sequence.tokens.resize(committed);
          }
          model = saved;
          ++coverage.rolled_back;
        }
        break;
    }

    ASSERT_EQ(pool.check_invariants(), "") << "at step " << step;
    ASSERT_EQ(pool.num_tables(), static_cast<int64_t>(model.size()));
    for (const auto& [id, expected] : model) {
      const std::vector<uint64_t> computed = expected.computed();
      ASSERT_EQ(pool.num_committed(id), static_cast<int64_t>(computed.size()));
      for (size_t i = 0; i < computed.size(); ++i) {
        ASSERT_EQ(entry(id, i), computed[i]) << "table " << id << " position " << i << " step " << step;
      }
    }
  }
  if (pool.in_transaction()) pool.commit_transaction();
  for (const auto& [id, expected] : model) pool.release(id);
  for (const int64_t lease : leases) pool.release_lease(lease, pool.epoch());
  EXPECT_EQ(pool.num_free(), pool.num_blocks());
  EXPECT_SOUND(pool);
}

TEST(BlockPool, RandomWalksAgreeWithANaiveModel) {
  Coverage coverage;
  for (int seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    walk(seed, /*weak=*/seed % 2 == 0, coverage);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(coverage.adopted, 100);
  EXPECT_GT(coverage.copied, 100);
  EXPECT_GT(coverage.refused, 100);
  EXPECT_GT(coverage.rolled_back, 100);
  EXPECT_GT(coverage.cut, 100);
}

}  // namespace
