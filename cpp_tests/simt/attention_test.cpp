// The GPU's paged attention against the formula in double.
#include "ops/attention/gpu/attention.h"

#include "attention_case.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

template <class T, class C>
std::string run_attention(Device& device, const AttentionCase<T, C>& c, std::vector<float>* result = nullptr) {
  const Shape& s = c.shape;
  const int max_len = *std::ranges::max_element(c.paging.seq_lens);
  const Array<T> q(device, c.q, "q"), out(device, c.q.size(), "out");
  const Array<C> k(device, c.k, "k_cache"), v(device, c.v, "v_cache");
  const Array<int32_t> starts(device, c.paging.query_start, "query_start"),
      lengths(device, c.paging.seq_lens, "seq_lens"), table(device, c.paging.table, "block_tables");
  const Array<float> partials(device, gpu::attention_partials(c.tokens, c.heads, s.head_dim, max_len), "partials");
  gpu::AttentionArgs<T, C> args{};
  args.q = q.get();
  args.out = out.get();
  const Array<float> k_scales(device, c.k_scales, "k_scales"), v_scales(device, c.v_scales, "v_scales");
  args.cache = {k.get(), v.get(), kBlockSize, s.kv_heads, s.head_dim, kKScale, kVScale, k_scales.get(), v_scales.get()};
  args.query_start = starts.get();
  args.seq_lens = lengths.get();
  args.block_tables = table.get();
  args.partials = partials.get();
  args.q_stride = args.out_stride = static_cast<int64_t>(c.cols);
  args.tokens = c.tokens;
  args.seqs = static_cast<int>(s.sequences.size());
  args.heads = c.heads;
  args.max_blocks = c.paging.max_blocks;
  args.max_len = max_len;
  args.window = s.window;
  args.scale = kScale;
  args.softcap = s.softcap;
  gpu::attention(args, &device);
  if (result != nullptr) *result = floats(out.values());
  return difference(floats(out.values()), c.wanted, 3e-6, kRounding<T>);
}

template <class T, class C>
std::string run_attention(Device& device, const Shape& shape, std::vector<float>* result = nullptr) {
  return run_attention<T, C>(device, AttentionCase<T, C>(shape), result);
}

template <class T, class C>
void expect_attention_right(const Shape& shape) {
  const AttentionCase<T, C> c(shape);
  expect_right([&](Device& d) { return run_attention(d, c); });
}

// Several splits, a sequence that ends in the middle of a block, one of a single position, several queries of one.
const std::vector<Sequence> kMixed = {{1100, 1}, {1, 1}, {37, 3}};

TEST(SimtAttention, EveryHeadDimAndType) {
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    const Shape shape = {head_dim, 1, 2, 0, 0.0f, {{530, 1}, {21, 2}}};
    expect_attention_right<float, float>(shape);
    expect_attention_right<f16, f16>(shape);
    expect_attention_right<bf16, bf16>(shape);
    expect_attention_right<bf16, e4m3>(shape);
    if (head_dim != 80 && head_dim != 256) continue;
    expect_attention_right<float, f16>(shape);
    expect_attention_right<float, int8_t>(shape);
    expect_attention_right<bf16, int8_t>(shape);
  }
}

TEST(SimtAttention, GroupsWindowsAndSoftcaps) {
  for (const int group : {1, 3, 4, 7}) {
    expect_attention_right<float, float>({64, 2, group, 0, 0.0f, {{50, 2}, {3, 1}}});
  }
  expect_attention_right<float, float>({64, 2, 2, 0, 0.0f, kMixed});
  expect_attention_right<float, float>({64, 1, 1, 600, 0.0f, kMixed});
  expect_attention_right<float, float>({64, 1, 4, 20, 2.0f, kMixed});
  expect_attention_right<float, int8_t>({80, 2, 3, 600, 2.0f, kMixed});
}

TEST(SimtAttention, OtherHeadDimsAreRefused) {
  Device device;
  const Shape shape = {48, 1, 1, 0, 0.0f, {{5, 1}}};
  EXPECT_THROW((run_attention<float, float>(device, shape)), std::invalid_argument);
}

const std::vector<std::string> kPlants = {"attention: forgets a split", "attention: forgets a warp",
                                          "attention: sees the future"};

std::string run_for_mutants(Device& device, bool bulk) {
  device.options.bulk = bulk;
  return run_attention<bf16, bf16>(device, {64, 1, 2, 0, 0.0f, {{530, 2}, {20, 1}}});
}

TEST(SimtAttention, MutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_for_mutants(d, false); }, {.block_syncs = 1, .plants = kPlants});
}

#if GPU_HAS_BULK

TEST(SimtAttention, MutantsOfTheRingAreNoticed) {
  expect_mutants_caught(
      [](Device& d) { return run_for_mutants(d, true); },
      {.block_syncs = 2, .warp_syncs = 1, .arrivals = 2, .barrier_waits = 2, .proxy_fences = 1, .plants = kPlants});
}

// GPUs before sm_90 load positions in another way; what they compute is the same.
template <class T, class C>
void expect_same_bits_without_bulk(const Shape& shape) {
  const AttentionCase<T, C> c(shape);
  std::vector<float> with, without;
  Device device;
  EXPECT_EQ(run_case([&](Device& d) { return run_attention(d, c, &with); }, device), "");
  device.options.bulk = false;
  EXPECT_EQ(run_case([&](Device& d) { return run_attention(d, c, &without); }, device), "");
  EXPECT_TRUE(with == without);
}

TEST(SimtAttention, WithAndWithoutBulkCopiesTheBitsAreTheSame) {
  for (const int head_dim : {64, 80, 256}) {
    const Shape shape = {head_dim, 1, 1, 0, 0.0f, {{530, 1}, {21, 2}}};
    expect_same_bits_without_bulk<float, float>(shape);
    expect_same_bits_without_bulk<bf16, bf16>(shape);
    expect_same_bits_without_bulk<bf16, e4m3>(shape);
    expect_same_bits_without_bulk<float, int8_t>(shape);
  }
  expect_same_bits_without_bulk<f16, f16>({64, 2, 3, 600, 2.0f, kMixed});
}

#endif

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
  for (const bool bulk : {true, false}) {
    expect_full_accesses([&](Device& d) {
      d.options.bulk = bulk;
      return run_attention<bf16, bf16>(d, {128, 1, 4, 0, 0.0f, {{64, 1}}});
    });
  }
}

}  // namespace
}  // namespace pf
