// The GPU's paged attention against the formula in double.
#include "ops/attention/gpu/attention.h"

#include "harness.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

struct Sequence {
  int context, queries;  // the last `queries` positions of the context are asked for
};

struct Shape {
  int head_dim, kv_heads, group, window;
  float softcap;
  std::vector<Sequence> sequences;
};

constexpr int kBlockSize = 16;
constexpr float kScale = 0.11f, kKScale = 0.75f, kVScale = 1.5f;

// The whole context of all sequences in blocks of the cache, in no particular order, one block left out.
struct Paging {
  explicit Paging(const std::vector<Sequence>& sequences) {
    for (const Sequence& s : sequences) max_blocks = std::max(max_blocks, (s.context + kBlockSize - 1) / kBlockSize);
    num_blocks = 1 + max_blocks * static_cast<int>(sequences.size());
    std::vector<int> free(static_cast<size_t>(num_blocks));
    for (int i = 0; i < num_blocks; ++i) free[static_cast<size_t>(i)] = i;
    std::mt19937 generator(7);
    std::ranges::shuffle(free, generator);
    for (const Sequence& s : sequences) {
      query_start.push_back(query_start.back() + s.queries);
      seq_lens.push_back(s.context);
      for (int b = 0; b < max_blocks; ++b) {
        // What lies beyond a sequence's end must not be looked at.
        const bool used = b * kBlockSize < s.context;
        table.push_back(used ? free.back() : 0x7fffffff);
        if (used) free.pop_back();
      }
    }
  }
  size_t slot(size_t sequence, int position) const {
    const int block = table[sequence * static_cast<size_t>(max_blocks) + static_cast<size_t>(position / kBlockSize)];
    return static_cast<size_t>(block * kBlockSize + position % kBlockSize);
  }
  int max_blocks = 0, num_blocks = 0;
  std::vector<int32_t> query_start{0}, seq_lens, table;
};

template <class C>
size_t cache_index(const Shape& s, size_t slot, int head, int channel) {
  const gpu::KvLayer<C> layer = {nullptr, nullptr, kBlockSize, s.kv_heads, s.head_dim};
  return static_cast<size_t>(layer.offset(static_cast<int>(slot), head) + channel);
}

template <class T, class C>
std::string run_attention(Device& device, const Shape& s, std::vector<float>* result = nullptr) {
  const Paging paging(s.sequences);
  const int tokens = paging.query_start.back(), heads = s.kv_heads * s.group;
  const auto cols = static_cast<size_t>(heads * s.head_dim);
  const auto q = converted<T>(normal_values(static_cast<size_t>(tokens) * cols, 1));
  const size_t cache_size = static_cast<size_t>(paging.num_blocks * kBlockSize * s.kv_heads * s.head_dim);
  // Slots that hold no token are NaN, as memory that was never written may be.
  std::vector<float> keys(cache_size, NAN), values(cache_size, NAN);
  const std::vector<float> drawn = normal_values(2 * cache_size, 2);
  size_t next = 0;
  for (size_t seq = 0; seq < s.sequences.size(); ++seq) {
    for (int p = 0; p < s.sequences[seq].context; ++p) {
      for (int h = 0; h < s.kv_heads; ++h) {
        for (int c = 0; c < s.head_dim; ++c) {
          const size_t at = cache_index<C>(s, paging.slot(seq, p), h, c);
          keys[at] = drawn[next++];
          values[at] = drawn[next++];
        }
      }
    }
  }
  const auto k = converted<C>(keys), v = converted<C>(values);
  const int max_len = *std::ranges::max_element(paging.seq_lens);
  const Array<T> dq(device, q, "q"), out(device, q.size(), "out");
  const Array<C> dk(device, k, "k_cache"), dv(device, v, "v_cache");
  const Array<int32_t> starts(device, paging.query_start, "query_start"), lengths(device, paging.seq_lens, "seq_lens"),
      table(device, paging.table, "block_tables");
  const Array<float> partials(device, gpu::attention_partials(tokens, heads, s.head_dim, max_len), "partials");
  gpu::AttentionArgs<T, C> args{};
  args.q = dq.get();
  args.out = out.get();
  args.cache = {dk.get(), dv.get(), kBlockSize, s.kv_heads, s.head_dim, kKScale, kVScale};
  args.query_start = starts.get();
  args.seq_lens = lengths.get();
  args.block_tables = table.get();
  args.partials = partials.get();
  args.q_stride = args.out_stride = static_cast<int64_t>(cols);
  args.tokens = tokens;
  args.seqs = static_cast<int>(s.sequences.size());
  args.heads = heads;
  args.max_blocks = paging.max_blocks;
  args.max_len = max_len;
  args.window = s.window;
  args.scale = kScale;
  args.softcap = s.softcap;
  gpu::attention(args, &device);
  if (result != nullptr) *result = floats(out.values());

  const std::vector<float> fq = floats(q), fk = floats(k), fv = floats(v);
  std::vector<double> wanted;
  for (size_t seq = 0; seq < s.sequences.size(); ++seq) {
    for (int i = 0; i < s.sequences[seq].queries; ++i) {
      const int end = s.sequences[seq].context - s.sequences[seq].queries + i + 1;
      const int begin = s.window > 0 ? std::max(0, end - s.window) : 0;
      const size_t token = static_cast<size_t>(paging.query_start[seq] + i);
      for (int h = 0; h < heads; ++h) {
        std::vector<double> weights, sums(static_cast<size_t>(s.head_dim));
        double total = 0;
        for (int p = begin; p < end; ++p) {
          double score = 0;
          for (int c = 0; c < s.head_dim; ++c) {
            score += double{fq[token * cols + static_cast<size_t>(h * s.head_dim + c)]} *
                     fk[cache_index<C>(s, paging.slot(seq, p), h / s.group, c)];
          }
          score *= double{kScale} * kKScale;
          if (s.softcap > 0) score = s.softcap * std::tanh(score / s.softcap);
          const double weight = std::exp(score);
          total += weight;
          for (int c = 0; c < s.head_dim; ++c) {
            sums[static_cast<size_t>(c)] +=
                weight * fv[cache_index<C>(s, paging.slot(seq, p), h / s.group, c)] * kVScale;
          }
        }
        for (const double sum : sums) wanted.push_back(sum / total);
      }
    }
  }
  return difference(floats(out.values()), wanted, 3e-6, kRounding<T>);
}

// Several splits, a sequence that ends in the middle of a block, one of a single position, several queries of one.
const std::vector<Sequence> kMixed = {{1100, 1}, {1, 1}, {37, 3}};

TEST(SimtAttention, EveryHeadDimAndType) {
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    const Shape shape = {head_dim, 1, 2, 0, 0.0f, {{530, 1}, {21, 2}}};
    expect_right([&](Device& d) { return run_attention<float, float>(d, shape); });
    expect_right([&](Device& d) { return run_attention<float, f16>(d, shape); });
    expect_right([&](Device& d) { return run_attention<f16, f16>(d, shape); });
    expect_right([&](Device& d) { return run_attention<bf16, bf16>(d, shape); });
    expect_right([&](Device& d) { return run_attention<bf16, e4m3>(d, shape); });
  }
}

TEST(SimtAttention, GroupsWindowsAndSoftcaps) {
  for (const int group : {1, 3, 4, 7}) {
    expect_right([&](Device& d) { return run_attention<float, float>(d, {64, 2, group, 0, 0.0f, {{50, 2}, {3, 1}}}); });
  }
  expect_right([](Device& d) { return run_attention<float, float>(d, {64, 2, 2, 0, 0.0f, kMixed}); });
  expect_right([](Device& d) { return run_attention<float, float>(d, {64, 1, 1, 600, 0.0f, kMixed}); });
  expect_right([](Device& d) { return run_attention<float, float>(d, {64, 1, 4, 20, 2.0f, kMixed}); });
}

TEST(SimtAttention, OtherHeadDimsAreRefused) {
  Device device;
  const Shape shape = {48, 1, 1, 0, 0.0f, {{5, 1}}};
  EXPECT_THROW((run_attention<float, float>(device, shape)), std::invalid_argument);
}

TEST(SimtAttention, MutantsAreNoticed) {
  expect_mutants_caught(
      [](Device& d) { return run_attention<bf16, bf16>(d, {64, 1, 2, 0, 0.0f, {{530, 2}, {20, 1}}}); },
      {.block_syncs = 1,
       .plants = {"attention: forgets a split", "attention: forgets a warp", "attention: sees the future"}});
}

// The same bits whatever else is in the batch, and however far its longest sequence reaches.
TEST(SimtAttention, AloneAndInABatch) {
  const auto run = [](const std::vector<Sequence>& sequences) {
    Device device;
    device.options.check = false;
    std::vector<float> result;
    EXPECT_EQ((run_attention<float, float>(device, {64, 1, 2, 0, 0.0f, sequences}, &result)), "");
    return result;
  };
  const std::vector<float> alone = run({{700, 1}}), batched = run({{700, 1}, {1500, 1}});
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), batched.begin()));
}

TEST(SimtAttention, TheCacheIsReadInWholeSectors) {
  expect_full_accesses([](Device& d) { return run_attention<bf16, bf16>(d, {128, 1, 4, 0, 0.0f, {{64, 1}}}); });
}

}  // namespace
}  // namespace pf
