// The GPU's attention with tensor cores against the formula in double.
#include "ops/attention/gpu/prefill.h"

#include "attention_case.h"

#if GPU_HAS_MMA

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

// Keys or values of the cache as rows of all sequences, `stride` elements from one to the next.
template <class T, class C>
std::vector<C> dense_rows(const AttentionCase<T, C>& c, const std::vector<C>& cache, size_t stride) {
  const auto dim = static_cast<size_t>(c.shape.head_dim);
  std::vector<C> rows(static_cast<size_t>(c.tokens) * stride);
  if constexpr (!std::is_same_v<C, int8_t>) std::ranges::fill(rows, gpu::from_float<C>(NAN));
  for (size_t seq = 0; seq < c.shape.sequences.size(); ++seq) {
    for (int p = 0; p < c.shape.sequences[seq].context; ++p) {
      for (int h = 0; h < c.shape.kv_heads; ++h) {
        const auto from = cache.begin() + static_cast<long>(c.index(seq, p, h));
        const size_t to = static_cast<size_t>(c.paging.query_start[seq] + p) * stride + static_cast<size_t>(h) * dim;
        std::copy(from, from + static_cast<long>(dim), rows.begin() + static_cast<long>(to));
      }
    }
  }
  return rows;
}

enum class Keys { kPaged, kDense };

template <class T, class C>
std::string run_prefill(Device& device, const AttentionCase<T, C>& c, Keys keys = Keys::kPaged,
                        std::vector<float>* result = nullptr) {
  const Shape& s = c.shape;
  const bool dense = keys == Keys::kDense;
  const size_t kv_stride = static_cast<size_t>(s.kv_heads * s.head_dim) + 16;
  const Array<T> q(device, c.q, "q"), out(device, c.q.size(), "out");
  const Array<C> k(device, dense ? dense_rows(c, c.k, kv_stride) : c.k, "k"),
      v(device, dense ? dense_rows(c, c.v, kv_stride) : c.v, "v");
  const Array<int32_t> starts(device, c.paging.query_start, "query_start"),
      lengths(device, c.paging.seq_lens, "seq_lens"), table(device, c.paging.table, "block_tables"),
      ends(device, c.ends, "ends");
  gpu::PrefillArgs<T, C> args{};
  args.q = q.get();
  args.out = out.get();
  const Array<float> k_scales(device, c.k_scales, "k_scales"), v_scales(device, c.v_scales, "v_scales");
  args.cache = {k.get(), v.get(), kBlockSize, s.kv_heads, s.head_dim, kKScale, kVScale, k_scales.get(), v_scales.get()};
  args.query_start = starts.get();
  args.seq_lens = lengths.get();
  args.block_tables = dense ? nullptr : table.get();
  args.ends = s.sees == Sees::kPast ? nullptr : ends.get();
  args.q_stride = args.out_stride = static_cast<int64_t>(c.cols);
  args.kv_stride = static_cast<int64_t>(kv_stride);
  args.tokens = c.tokens;
  args.seqs = static_cast<int>(s.sequences.size());
  args.heads = c.heads;
  args.max_blocks = c.paging.max_blocks;
  args.window = s.window;
  args.scale = kScale;
  args.softcap = s.softcap;
  gpu::prefill_attention(args, &device);
  if (result != nullptr) *result = floats(out.values());
  // Weights are rounded to T before they meet the values: an error of T's size, of values of size 1.5.
  return difference(floats(out.values()), c.wanted, 1.5 * kRounding<T>, kRounding<T>);
}

template <class T, class C>
void expect_prefill_right(const Shape& shape, Keys keys = Keys::kPaged) {
  const AttentionCase<T, C> c(shape);
  expect_right([&](Device& d) { return run_prefill<T, C>(d, c, keys); });
}

// Three blocks of rows: one sequence that begins, a chunk late in another, a single token of a third.
const std::vector<Sequence> kMixed = {{41, 41}, {150, 12}, {70, 1}};

TEST(SimtPrefill, EveryHeadDimAndType) {
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    const Shape shape = {head_dim, 1, 2, 0, 0.0f, {{35, 35}, {75, 3}}};
    expect_prefill_right<f16, f16>(shape);
    expect_prefill_right<bf16, bf16>(shape);
    expect_prefill_right<bf16, e4m3>(shape);
    expect_prefill_right<bf16, int8_t>(shape);
  }
}

TEST(SimtPrefill, GroupsWindowsAndSoftcaps) {
  for (const int group : {1, 3, 8}) expect_prefill_right<bf16, bf16>({64, 2, group, 0, 0.0f, {{30, 25}, {3, 1}}});
  expect_prefill_right<bf16, bf16>({64, 2, 2, 0, 0.0f, kMixed});
  expect_prefill_right<bf16, bf16>({64, 1, 1, 70, 0.0f, {{200, 130}}});
  expect_prefill_right<f16, f16>({64, 1, 4, 20, 2.0f, kMixed});
  expect_prefill_right<bf16, int8_t>({80, 2, 3, 70, 2.0f, kMixed});
}

TEST(SimtPrefill, EncodersAndImagesInPrompts) {
  expect_prefill_right<bf16, bf16>({80, 2, 1, 0, 0.0f, {{100, 100}, {9, 9}}, Sees::kAll}, Keys::kDense);
  expect_prefill_right<bf16, e4m3>({64, 1, 2, 0, 0.0f, {{40, 40}}, Sees::kPast}, Keys::kDense);
  expect_prefill_right<bf16, bf16>({64, 1, 2, 0, 0.0f, {{90, 50}, {33, 33}}, Sees::kImages});
  expect_prefill_right<bf16, bf16>({64, 1, 2, 30, 0.0f, {{90, 50}}, Sees::kImages});
  expect_prefill_right<bf16, int8_t>({64, 1, 2, 30, 0.0f, {{90, 50}, {33, 33}}, Sees::kImages});
}

TEST(SimtPrefill, WhatItCannotDoIsRefused) {
  Device device;
  const AttentionCase<bf16, bf16> odd({72, 1, 1, 0, 0.0f, {{5, 2}}}), wide({272, 1, 1, 0, 0.0f, {{5, 2}}});
  EXPECT_THROW(run_prefill(device, odd), std::invalid_argument);
  EXPECT_THROW(run_prefill(device, wide), std::invalid_argument);
  const AttentionCase<bf16, int8_t> outside({64, 1, 1, 0, 0.0f, {{5, 5}}});
  EXPECT_THROW(run_prefill(device, outside, Keys::kDense), std::invalid_argument);
}

TEST(SimtPrefill, MutantsAreNoticed) {
  const std::vector<std::string> plants = {"prefill: no swizzle", "prefill: past the rows", "prefill: sees the future",
                                           "prefill: stale sums", "prefill: wrong fragment"};
  // Left out on both sides a swizzle is missed by the count of conflicts alone: see below.
  const auto caught_by_result = [&](const auto& c) {
    return [&](Device& d) {
      const std::string wrong = run_prefill(d, c);
      return wrong.empty() && d.options.drop && d.options.drop->at == plants[0] ? "conflicts" : wrong;
    };
  };
  const std::vector<Sequence> sequences = {{40, 30}, {140, 3}};
  const AttentionCase<bf16, bf16> plain({64, 1, 2, 0, 0.0f, sequences});
  expect_mutants_caught(caught_by_result(plain),
                        {.block_syncs = 3, .warp_syncs = 1, .async_waits = 3, .plants = plants});
  const AttentionCase<bf16, bf16> wide({256, 1, 2, 0, 0.0f, {{70, 33}}});
  expect_mutants_caught(caught_by_result(wide),
                        {.block_syncs = 2, .warp_syncs = 1, .async_waits = 2, .plants = plants});
  const AttentionCase<bf16, e4m3> bytes({64, 1, 2, 0, 0.0f, sequences});
  expect_mutants_caught(caught_by_result(bytes),
                        {.block_syncs = 3, .warp_syncs = 1, .async_waits = 3, .plants = plants});
  std::vector<std::string> with_scales = {"prefill: a neighbour's scale", "prefill: forgets a value's scale"};
  with_scales.insert(with_scales.end(), plants.begin(), plants.end());
  const AttentionCase<bf16, int8_t> codes({64, 1, 2, 0, 0.0f, sequences});
  expect_mutants_caught(caught_by_result(codes),
                        {.block_syncs = 3, .warp_syncs = 1, .async_waits = 3, .plants = with_scales});
}

// Without the swizzle the same rows meet the same banks.
TEST(SimtPrefill, SharedMemoryWithoutConflictsAndWholeSectors) {
  for (const int head_dim : {64, 96, 128, 256}) {
    const Shape shape = {head_dim, 1, 1, 0, 0.0f, {{70, 70}}};
    const AttentionCase<bf16, bf16> plain(shape);
    const AttentionCase<bf16, e4m3> bytes(shape);
    const AttentionCase<bf16, int8_t> codes(shape);
    expect_full_accesses([&](Device& d) { return run_prefill(d, plain); });
    expect_full_accesses([&](Device& d) { return run_prefill(d, bytes); });
    expect_full_accesses([&](Device& d) { return run_prefill(d, codes); });
    if (!kCheckBuild) continue;
    Device device;
    device.options.count = true;
    device.options.drop = simt::SyncSite{simt::SyncSite::kPlant, "prefill: no swizzle"};
    EXPECT_EQ(run_prefill(device, plain), "");
    double worst = 0;
    for (const simt::AccessCount& count : device.take_counts(1.0)) {
      if (count.shared) worst = std::max(worst, count.factor());
    }
    EXPECT_GE(worst, 4.0);
  }
}

// The same bits alone and in a batch, whole and in chunks: keys and values are drawn by position, so that sequences of
// one length that come first are the same but for how much of them is asked for.
template <class C>
void expect_batch_and_chunks_not_to_matter() {
  constexpr int kLength = 150;
  const Shape shape = {64, 1, 2, 0, 0.0f, {{kLength, kLength}}};
  const AttentionCase<bf16, C> reference(shape);
  const auto run = [&](std::vector<Sequence> sequences, int window) {
    Device device;
    device.options.check = false;
    sequences.front().context = kLength;
    Shape s = shape;
    s.sequences = sequences;
    s.window = window;
    AttentionCase<bf16, C> c(s);
    const size_t queries = static_cast<size_t>(sequences.front().queries) * c.cols;
    std::copy(reference.q.end() - static_cast<long>(queries), reference.q.end(), c.q.begin());
    c.compute_wanted();
    std::vector<float> result;
    EXPECT_EQ(run_prefill(device, c, Keys::kPaged, &result), "");
    result.resize(queries);
    return result;
  };
  for (const int window : {0, 50}) {
    const std::vector<float> whole = run({{kLength, kLength}}, window);
    EXPECT_EQ(run({{kLength, kLength}, {30, 7}}, window), whole);
    for (const int chunk : {1, 37, 99}) {
      const std::vector<float> last = run({{kLength, chunk}}, window);
      EXPECT_TRUE(std::equal(last.rbegin(), last.rend(), whole.rbegin())) << chunk << " tokens, window " << window;
    }
  }
}

TEST(SimtPrefill, BatchAndChunksDoNotMatter) {
  expect_batch_and_chunks_not_to_matter<bf16>();
  expect_batch_and_chunks_not_to_matter<int8_t>();
}

}  // namespace
}  // namespace pf

#endif
