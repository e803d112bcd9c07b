// The block pool on the GPU against one that goes through its sequences one after the other.
#include "ops/attention/gpu/blocks.h"

#include "harness.h"
#include "ops/attention/gpu/cache.h"

namespace pf {
namespace {

using simt::Device;

constexpr int kSize = 16, kChannels = 4;  // tokens and channels of a block

struct Sizes {
  int num_blocks, seqs, max_blocks, rounds;
};

// What the device should hold.
struct Pool {
  explicit Pool(const Sizes& sizes) : s(sizes) {
    free.resize(static_cast<size_t>(s.num_blocks), true);
    for (int b = 0; b < s.num_blocks; b += 7) free[static_cast<size_t>(b)] = false;  // not lent to the device
    refs.resize(free.size());
    lens.resize(static_cast<size_t>(s.seqs));
    tables.resize(static_cast<size_t>(s.seqs * s.max_blocks), -7);
    keys = normal_values(free.size() * kSize * kChannels, 5);
  }
  int32_t& table(int seq, int i) { return tables[static_cast<size_t>(seq * s.max_blocks + i)]; }
  static int blocks_of(int tokens) { return (tokens + kSize - 1) / kSize; }
  int pop() {
    const auto lowest = std::ranges::find(free, true);
    *lowest = false;
    const auto block = lowest - free.begin();
    refs[static_cast<size_t>(block)] = 1;
    return static_cast<int>(block);
  }
  void drop(int block, std::vector<int>& freed) {
    if (--refs[static_cast<size_t>(block)] == 0) freed.push_back(block);
  }
  void give_back(const std::vector<int>& freed) {
    for (const int block : freed) free[static_cast<size_t>(block)] = true;
  }

  void extend(const std::vector<int32_t>& query_start) {
    slots.clear();
    granted.clear();
    const std::vector<int32_t> refs_before = refs;
    const std::vector<float> keys_before = keys;
    int left = static_cast<int>(std::ranges::count(free, true));
    bool dry = false;
    std::vector<int> freed;
    copied = 0;
    for (int seq = 0; seq < s.seqs; ++seq) {
      int& len = lens[static_cast<size_t>(seq)];
      const int more = query_start[static_cast<size_t>(seq) + 1] - query_start[static_cast<size_t>(seq)];
      const int held = blocks_of(len), wanted = blocks_of(len + more);
      const bool shared = more > 0 && len % kSize != 0 && refs_before[static_cast<size_t>(table(seq, held - 1))] > 1;
      const int need = wanted - held + (shared ? 1 : 0);
      const bool fits = wanted <= s.max_blocks;
      if (fits && need > left) dry = true;
      const bool given = fits && (need == 0 || !dry);
      granted.push_back(given ? 1 : 0);
      if (given && shared) {
        const int from = table(seq, held - 1), to = pop();
        std::copy_n(keys_before.begin() + from * kSize * kChannels, kSize * kChannels,
                    keys.begin() + to * kSize * kChannels);
        table(seq, held - 1) = to;
        drop(from, freed);
        ++copied;
      }
      if (given) {
        left -= need;
        for (int i = held; i < wanted; ++i) table(seq, i) = pop();
        len += more;
      }
      for (int i = 0; i < more; ++i) {
        const int position = len - more + i;
        slots.push_back(given ? table(seq, position / kSize) * kSize + position % kSize : -1);
      }
    }
    give_back(freed);
  }
  void fork(int parent, int child) {
    lens[static_cast<size_t>(child)] = lens[static_cast<size_t>(parent)];
    for (int i = 0; i < blocks_of(lens[static_cast<size_t>(parent)]); ++i) {
      table(child, i) = table(parent, i);
      ++refs[static_cast<size_t>(table(parent, i))];
    }
  }
  void release(int seq) {
    std::vector<int> freed;
    for (int i = 0; i < blocks_of(lens[static_cast<size_t>(seq)]); ++i) drop(table(seq, i), freed);
    give_back(freed);
    lens[static_cast<size_t>(seq)] = 0;
  }
  std::vector<uint32_t> bits() const {
    std::vector<uint32_t> words((free.size() + 31) / 32);
    for (size_t b = 0; b < free.size(); ++b) words[b / 32] |= free[b] ? 1u << b % 32 : 0u;
    return words;
  }

  Sizes s;
  std::vector<bool> free;
  std::vector<int32_t> refs, lens, tables, slots, granted;
  std::vector<float> keys;
  int copied = 0;
};

template <class T>
std::string compare(const char* what, const std::vector<T>& values, const std::vector<T>& wanted) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (values[i] != wanted[i]) {
      return std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) + ", not " +
             std::to_string(wanted[i]);
    }
  }
  return "";
}

// What the rounds have met, so that a test can ask for all of it.
struct Met {
  int refused = 0, copied = 0, shared = 0;
};

std::string run_blocks(Device& device, const Sizes& s, Met* met = nullptr) {
  Pool pool(s);
  const auto seqs = static_cast<size_t>(s.seqs), blocks = static_cast<size_t>(s.num_blocks);
  const Array<uint32_t> free(device, pool.bits(), "free");
  const Array<int32_t> refs(device, pool.refs, "refs"), tables(device, pool.tables, "tables"),
      lens(device, pool.lens, "lens"), granted(device, seqs, "granted"), copy_from(device, seqs, "copy_from"),
      copy_to(device, seqs, "copy_to");
  const Array<float> keys(device, pool.keys, "keys"), values(device, pool.keys, "values");
  const gpu::KvLayer<float> layer = {keys.get(), values.get(), kSize, 1, kChannels};
  const gpu::BlockPool gpu_pool = {free.get(), refs.get(), s.num_blocks, kSize};
  const gpu::BlockTables gpu_tables = {tables.get(), lens.get(), s.seqs, s.max_blocks};

  std::mt19937 random(3);
  for (int round = 0; round < s.rounds; ++round) {
    std::vector<int32_t> query_start = {0};
    for (int seq = 0; seq < s.seqs; ++seq) {
      const int kind = static_cast<int>(random() % 8);
      query_start.push_back(query_start.back() + (kind == 0   ? 0
                                                  : kind == 1 ? static_cast<int>(random() % 70)
                                                              : 1 + static_cast<int>(random() % 3)));
    }
    pool.extend(query_start);
    const Array<int32_t> starts(device, query_start, "query_start"), slots(device, pool.slots.size(), "slots"),
        scratch(device, seqs + blocks, "scratch");
    gpu::extend_tables({gpu_pool, gpu_tables, starts.get(), slots.get(), granted.get(), copy_from.get(), copy_to.get(),
                        scratch.get(), query_start.back()},
                       &device);
    gpu::copy_blocks(layer, copy_from.get(), layer, copy_to.get(), s.seqs, &device);
    std::string wrong = compare("granted", granted.values(), pool.granted);
    if (wrong.empty()) wrong = compare("slots", slots.values(), pool.slots);
    if (wrong.empty()) wrong = compare("keys", keys.values(), pool.keys);

    // A sequence's blocks are shared by the next one if that has none; a fourth of all end.
    std::vector<int32_t> parents, children, ended;
    for (int seq = 0; seq + 1 < s.seqs; ++seq) {
      const bool has = pool.lens[static_cast<size_t>(seq)] > 0, next = pool.lens[static_cast<size_t>(seq) + 1] > 0;
      if (has && !next && std::ranges::find(children, seq) == children.end()) {
        parents.push_back(seq);
        children.push_back(seq + 1);
      }
    }
    for (size_t i = 0; i < parents.size(); ++i) pool.fork(parents[i], children[i]);
    for (int seq = 0; seq < s.seqs; ++seq) {
      if (random() % 4 == 0) ended.push_back(seq);
    }
    for (const int seq : ended) pool.release(seq);
    const Array<int32_t> dp(device, parents, "parents"), dc(device, children, "children"), de(device, ended, "ended");
    gpu::fork_tables(gpu_pool, gpu_tables, dp.get(), dc.get(), static_cast<int>(parents.size()), &device);
    gpu::release_tables(gpu_pool, gpu_tables, de.get(), static_cast<int>(ended.size()), &device);
    if (wrong.empty()) wrong = compare("tables", tables.values(), pool.tables);
    if (wrong.empty()) wrong = compare("lens", lens.values(), pool.lens);
    if (wrong.empty()) wrong = compare("refs", refs.values(), pool.refs);
    if (wrong.empty()) wrong = compare("free", free.values(), pool.bits());
    if (!wrong.empty()) return "round " + std::to_string(round) + ": " + wrong;
    if (met != nullptr) {
      met->refused += static_cast<int>(std::ranges::count(pool.granted, 0));
      met->copied += pool.copied;
      met->shared += static_cast<int>(parents.size());
    }
  }
  return "";
}

// Few blocks for three sequences; more words of free bits than threads; more sequences than threads.
const Sizes kFew = {18, 5, 12, 12}, kLarge = {5000, 40, 8, 3}, kCrowded = {230, 150, 6, 4};

TEST(SimtBlocks, TablesGrowShareAndShrinkAsInOrder) {
  for (const Sizes& sizes : {kFew, kLarge, kCrowded}) {
    expect_right([&](Device& d) { return run_blocks(d, sizes); });
  }
  Device device;
  Met met;
  for (const Sizes& sizes : {kFew, kCrowded}) EXPECT_EQ(run_blocks(device, sizes, &met), "");
  EXPECT_GT(met.refused, 5);
  EXPECT_GT(met.copied, 5);
  EXPECT_GT(met.shared, 5);
}

TEST(SimtBlocks, NothingToDo) {
  Device device;
  const Array<uint32_t> free(device, std::vector<uint32_t>{7}, "free");
  gpu::extend_tables({}, &device);
  gpu::fork_tables({}, {}, nullptr, nullptr, 0, &device);
  gpu::release_tables({}, {}, nullptr, 0, &device);
  gpu::gather_blocks({}, &device);
  EXPECT_EQ(free.values(), std::vector<uint32_t>{7});
}

TEST(SimtBlocks, MutantsAreNoticed) {
  expect_mutants_caught(
      [](Device& d) {
        const std::string wrong = run_blocks(d, kFew);
        return wrong.empty() ? run_blocks(d, kCrowded) : wrong;
      },
      {.block_syncs = 4,
       .warp_syncs = 1,
       .plants = {"blocks: frees what is shared", "blocks: slots past the tokens", "blocks: stays free",
                  "copy_blocks: no guard"}});
}

// Blocks 4, 0 and 2 of three layers, whose keys and values are counted through, to a buffer and to other blocks.
std::string run_transfer(Device& device) {
  constexpr size_t kBlocks = 6, kFloats = 2080 / 4, kLayers = 3;
  const std::vector<int32_t> out = {4, 0, 2}, in = {1, 5, 3};
  std::vector<std::unique_ptr<Array<float>>> arrays;
  std::vector<std::vector<float>> wanted;
  std::vector<void*> pointers;
  std::vector<float> packed;
  for (size_t i = 0; i < 2 * kLayers; ++i) {
    wanted.push_back(normal_values(kBlocks * kFloats, static_cast<unsigned>(i)));
    arrays.push_back(std::make_unique<Array<float>>(device, wanted.back(), "layer"));
    pointers.push_back(arrays.back()->get());
  }
  for (size_t b = 0; b < out.size(); ++b) {
    for (std::vector<float>& layer : wanted) {
      const auto from = layer.begin() + out[b] * static_cast<long>(kFloats);
      packed.insert(packed.end(), from, from + kFloats);
      std::copy_n(from, kFloats, layer.begin() + in[b] * static_cast<long>(kFloats));
    }
  }
  const Array<void*> layers(device, pointers, "layers");
  const Array<int32_t> from(device, out, "blocks"), to(device, in, "blocks");
  const Array<float> buffer(device, packed.size(), "buffer");
  gpu::TransferArgs args = {layers.get(), from.get(), buffer.get(), kFloats * 4, 3, kLayers};
  gpu::gather_blocks(args, &device);
  std::string wrong = compare("buffer", buffer.values(), packed);
  args.blocks = to.get();
  gpu::scatter_blocks(args, &device);
  for (size_t i = 0; i < arrays.size() && wrong.empty(); ++i) wrong = compare("layer", arrays[i]->values(), wanted[i]);
  return wrong;
}

TEST(SimtBlocks, TransferOfAllLayers) {
  expect_right(run_transfer);
  expect_mutants_caught(run_transfer, {.plants = {"blocks: transfer past the block"}});
  expect_full_accesses(run_transfer);
}

}  // namespace
}  // namespace pf
