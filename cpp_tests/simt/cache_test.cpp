// GPU kernels of rope and cache_write against plain loops in double.
#include "ops/attention/gpu/cache.h"

#include "harness.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

std::string run_angles(Device& device) {
  constexpr size_t kHalf = 150, kStride = 2 * kHalf + 4;
  const std::vector<int32_t> positions = {0, 7, 100'000};
  std::vector<float> inv_freq;
  for (size_t i = 0; i < kHalf; ++i) inv_freq.push_back(std::pow(10000.0f, -static_cast<float>(i) / kHalf));
  const Array<int32_t> dp(device, positions, "positions");
  const Array<float> df(device, inv_freq, "inv_freq"), cs(device, std::vector<float>(3 * kStride, 0.0f), "cs");
  gpu::rope_angles(dp.get(), df.get(), cs.get(), kStride, 3, kHalf, 1.5, &device);
  std::vector<double> wanted;
  for (const int32_t p : positions) {
    for (const float f : inv_freq) wanted.push_back(std::cos(static_cast<double>(p) * f) * 1.5);
    for (const float f : inv_freq) wanted.push_back(std::sin(static_cast<double>(p) * f) * 1.5);
    wanted.insert(wanted.end(), 4, 0.0);
  }
  return difference(cs.values(), wanted, 1e-12, 1e-7);
}

TEST(SimtCache, RopeAngles) {
  expect_right(run_angles);
  expect_mutants_caught(run_angles, {.plants = {"rope_angles: past the row"}});
}

struct Shape {
  int heads, kv_heads, head_dim, rot_dim;
  bool interleaved;
};

template <class T, class C>
std::string run_rope_cache(Device& device, const Shape& s) {
  constexpr int kTokens = 4, kBlocks = 3, kBlockSize = 16;
  const std::vector<int32_t> slots = {40, 3, -1, 16};  // several blocks, and a token that is not kept
  const auto q_cols = static_cast<size_t>(s.heads * s.head_dim), kv_cols = static_cast<size_t>(s.kv_heads * s.head_dim);
  const auto rot = static_cast<size_t>(s.rot_dim);
  // q, k and v are views of one matrix, as the fused projection leaves them.
  const size_t stride = q_cols + 2 * kv_cols;
  const auto qkv = converted<T>(normal_values(kTokens * stride, 1));
  const std::vector<float> cs = normal_values(kTokens * rot, 2);
  const Array<T> x(device, qkv, "qkv"), out(device, kTokens * q_cols, "q_out");
  const Array<float> dcs(device, cs, "cs");
  const Array<int32_t> ds(device, slots, "slots");
  const size_t cache_size = kBlocks * kBlockSize * kv_cols;
  const std::vector<C> empty(cache_size, gpu::from_float<C>(9.0f));
  const Array<C> k(device, empty, "k_cache"), v(device, empty, "v_cache");
  gpu::RopeCacheArgs<T, C> args{};
  args.q = x.get();
  args.k = x.get() + q_cols;
  args.v = x.get() + q_cols + kv_cols;
  args.cs = dcs.get();
  args.slots = ds.get();
  args.q_out = out.get();
  args.cache = {k.get(), v.get(), kBlockSize, s.kv_heads, s.head_dim, 0.5f, 2.0f};
  args.q_stride = args.k_stride = args.v_stride = static_cast<int64_t>(stride);
  args.cs_stride = s.rot_dim;
  args.q_out_stride = static_cast<int64_t>(q_cols);
  args.tokens = kTokens;
  args.heads = s.heads;
  args.rot_dim = s.rot_dim;
  args.interleaved = s.interleaved;
  gpu::rope_cache(args, &device);

  const std::vector<float> fx = floats(qkv);
  const auto rotated = [&](size_t token, size_t head_begin, size_t d) -> double {
    const float* head = &fx[token * stride + head_begin];
    if (d >= rot) return head[d];
    const size_t half = rot / 2, i = s.interleaved ? d / 2 : d % half;
    const bool second = s.interleaved ? d % 2 == 1 : d >= half;
    const double a = head[s.interleaved ? 2 * i : i], b = head[s.interleaved ? 2 * i + 1 : i + half];
    const double c = cs[token * rot + i], sine = cs[token * rot + half + i];
    return second ? b * c + a * sine : a * c - b * sine;
  };
  const auto dim = static_cast<size_t>(s.head_dim);
  std::vector<double> wanted;
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t i = 0; i < q_cols; ++i) wanted.push_back(rotated(t, i / dim * dim, i % dim));
  }
  const std::string wrong = difference(floats(out.values()), wanted, 1e-6, kRounding<T>);
  if (!wrong.empty()) return "q: " + wrong;

  std::vector<double> wanted_k(cache_size, 9.0), wanted_v(cache_size, 9.0);
  for (size_t t = 0; t < kTokens; ++t) {
    if (slots[t] < 0) continue;
    for (size_t i = 0; i < kv_cols; ++i) {
      const size_t block = static_cast<size_t>(slots[t]) / kBlockSize,
                   offset = static_cast<size_t>(slots[t]) % kBlockSize;
      const size_t at = ((block * static_cast<size_t>(s.kv_heads) + i / dim) * kBlockSize + offset) * dim + i % dim;
      wanted_k[at] = rotated(t, q_cols + i / dim * dim, i % dim) / 0.5;
      wanted_v[at] = double{fx[t * stride + q_cols + kv_cols + i]} / 2.0;
    }
  }
  // e4m3 has three bits of mantissa, and multiples of 2^-9 near 0.
  const double relative = sizeof(C) == 1 ? 0x1p-4 : kRounding<C>, absolute = sizeof(C) == 1 ? 0x1p-10 : 1e-6;
  const std::string wrong_k = difference(floats(k.values()), wanted_k, absolute, relative);
  if (!wrong_k.empty()) return "k: " + wrong_k;
  const std::string wrong_v = difference(floats(v.values()), wanted_v, absolute, relative);
  return wrong_v.empty() ? "" : "v: " + wrong_v;
}

TEST(SimtCache, RopeAndCacheWrite) {
  for (const Shape& s : {Shape{6, 2, 64, 64, false}, Shape{3, 3, 80, 32, false}, Shape{4, 1, 96, 96, true},
                         Shape{2, 2, 20, 12, true}, Shape{2, 0, 64, 64, false}, Shape{0, 2, 64, 0, false}}) {
    expect_right([&](Device& d) { return run_rope_cache<float, float>(d, s); });
    expect_right([&](Device& d) { return run_rope_cache<f16, f16>(d, s); });
    expect_right([&](Device& d) { return run_rope_cache<bf16, bf16>(d, s); });
    expect_right([&](Device& d) { return run_rope_cache<bf16, e4m3>(d, s); });
    expect_right([&](Device& d) { return run_rope_cache<float, f16>(d, s); });
  }
  expect_mutants_caught([](Device& d) { return run_rope_cache<bf16, bf16>(d, {6, 2, 64, 64, false}); },
                        {.plants = {"cache: any slot", "rope: wrong partner"}});
}

// Copies within a cache, then gathers the copies into a dense layer.
template <class C>
std::string run_copy_blocks(Device& device) {
  constexpr int kBlocks = 5, kBlockSize = 16, kHeads = 3, kDim = 20;
  constexpr size_t kOfBlock = kBlockSize * kHeads * kDim, kSize = kBlocks * kOfBlock;
  const auto keys = converted<C>(normal_values(kSize, 1)), values = converted<C>(normal_values(kSize, 2));
  const std::vector<int32_t> from = {4, 0}, to = {1, 3}, dense = {0, 1};
  const Array<C> k(device, keys, "k"), v(device, values, "v"), gk(device, 2 * kOfBlock, "gathered k"),
      gv(device, 2 * kOfBlock, "gathered v");
  const Array<int32_t> dfrom(device, from, "from"), dto(device, to, "to"), ddense(device, dense, "dense");
  const gpu::KvLayer<C> cache = {k.get(), v.get(), kBlockSize, kHeads, kDim};
  const gpu::KvLayer<C> gathered = {gk.get(), gv.get(), kBlockSize, kHeads, kDim};
  gpu::copy_blocks(cache, dfrom.get(), cache, dto.get(), 2, &device);
  gpu::copy_blocks(cache, dto.get(), gathered, ddense.get(), 2, &device);

  const auto wanted_of = [&](const std::vector<C>& whole) {
    const std::vector<float> before = floats(whole);
    std::vector<double> after(before.begin(), before.end()), copies;
    for (size_t i = 0; i < 2 * kOfBlock; ++i) {
      const size_t source = static_cast<size_t>(from[i / kOfBlock]) * kOfBlock + i % kOfBlock;
      after[static_cast<size_t>(to[i / kOfBlock]) * kOfBlock + i % kOfBlock] = before[source];
      copies.push_back(before[source]);
    }
    return std::pair(after, copies);
  };
  const auto [wanted_k, copied_k] = wanted_of(keys);
  const auto [wanted_v, copied_v] = wanted_of(values);
  return difference(floats(k.values()), wanted_k, 0, 0) + difference(floats(v.values()), wanted_v, 0, 0) +
         difference(floats(gk.values()), copied_k, 0, 0) + difference(floats(gv.values()), copied_v, 0, 0);
}

TEST(SimtCache, CopyBlocks) {
  expect_right(run_copy_blocks<float>);
  expect_right(run_copy_blocks<bf16>);
  expect_right(run_copy_blocks<e4m3>);
  expect_mutants_caught(run_copy_blocks<float>, {.plants = {"copy_blocks: no guard"}});
  expect_full_accesses(run_copy_blocks<bf16>);
}

}  // namespace
}  // namespace pf
