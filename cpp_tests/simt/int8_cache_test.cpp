// The int8 cache on the GPU: what rope_cache writes, and that copies take the scales along.
#include "harness.h"
#include "ops/attention/gpu/cache.h"

namespace pf {
namespace {

using gpu::bf16;
using simt::Device;

struct Shape {
  int kv_heads, head_dim, rot_dim;
  bool interleaved;
};

constexpr int kBlockSize = 16, kBlocks = 3;
const std::vector<int32_t> kSlots = {37, -1, 2, 20};

// Says how a head in the cache differs from its values: its scale is their largest magnitude / 127, each is half a step
// off at most, and what is not finite has no scale.
std::string check_head(const std::string& where, const int8_t* got, float scale, const std::vector<double>& wanted) {
  double largest = 0;
  for (const double w : wanted)
    largest = std::isfinite(w) && !std::isnan(largest) ? std::max(largest, std::abs(w)) : NAN;
  if (std::isnan(largest)) return std::isnan(scale) ? "" : where + ": a scale of what is not finite";
  if (!(std::abs(scale * 127 - largest) <= 1e-5 * largest)) return where + ": scale " + std::to_string(scale);
  for (size_t c = 0; c < wanted.size(); ++c) {
    if (std::abs(double{scale} * got[c] - wanted[c]) > 0.5001 * scale) {
      return where + ", channel " + std::to_string(c) + " is " + std::to_string(scale * static_cast<float>(got[c]));
    }
  }
  return "";
}

template <class T>
std::string run_int8(Device& device, const Shape& s) {
  const size_t tokens = kSlots.size(), dim = static_cast<size_t>(s.head_dim), rot = static_cast<size_t>(s.rot_dim),
               cols = static_cast<size_t>(s.kv_heads) * dim,
               heads = static_cast<size_t>(kBlocks * kBlockSize * s.kv_heads);
  std::vector<float> keys = normal_values(tokens * cols, 1), values = normal_values(tokens * cols, 2);
  std::fill_n(values.begin(), dim, 0.0f);
  if (s.kv_heads > 1) values[dim + 3] = INFINITY;
  const auto q = converted<T>(normal_values(tokens * dim, 3)), k = converted<T>(keys), v = converted<T>(values);
  const std::vector<float> cs = normal_values(tokens * rot, 4);
  const Array<T> dq(device, q, "q"), dk(device, k, "k"), dv(device, v, "v"), q_out(device, q.size(), "q_out");
  const Array<float> dcs(device, cs, "cs"), k_scales(device, std::vector<float>(heads), "k_scales"),
      v_scales(device, std::vector<float>(heads), "v_scales"), k_copied(device, heads, "k_scales of a copy"),
      v_copied(device, heads, "v_scales of a copy");
  const Array<int8_t> kc(device, std::vector<int8_t>(heads * dim), "k_cache"),
      vc(device, std::vector<int8_t>(heads * dim), "v_cache"), k_copy(device, heads * dim, "k of a copy"),
      v_copy(device, heads * dim, "v of a copy");
  const Array<int32_t> slots(device, kSlots, "slots"), from(device, std::vector<int32_t>{2, 0, 1}, "from"),
      to(device, std::vector<int32_t>{0, 1, 2}, "to");
  gpu::RopeCacheArgs<T, int8_t> args{};
  args.q = dq.get();
  args.k = dk.get();
  args.v = dv.get();
  args.cs = dcs.get();
  args.slots = slots.get();
  args.q_out = q_out.get();
  args.cache = {kc.get(), vc.get(), kBlockSize, s.kv_heads, s.head_dim, 1.0f, 1.0f, k_scales.get(), v_scales.get()};
  args.q_stride = args.q_out_stride = static_cast<int64_t>(dim);
  args.k_stride = args.v_stride = static_cast<int64_t>(cols);
  args.cs_stride = s.rot_dim;
  args.tokens = static_cast<int>(tokens);
  args.heads = 1;
  args.rot_dim = s.rot_dim;
  args.interleaved = s.interleaved;
  gpu::rope_cache(args, &device);
  const gpu::KvLayer<int8_t> copy = {k_copy.get(), v_copy.get(), kBlockSize,     s.kv_heads,    s.head_dim,
                                     1.0f,         1.0f,         k_copied.get(), v_copied.get()};
  gpu::copy_blocks(args.cache, from.get(), copy, to.get(), kBlocks, &device);

  const std::vector<float> fk = floats(k), fv = floats(v);
  const std::vector<int8_t> got_k = k_copy.values(), got_v = v_copy.values();
  const std::vector<float> got_ks = k_copied.values(), got_vs = v_copied.values();
  for (size_t t = 0; t < tokens; ++t) {
    if (kSlots[t] < 0) continue;
    for (int h = 0; h < s.kv_heads; ++h) {
      const size_t begin = t * cols + static_cast<size_t>(h) * dim;
      std::vector<double> key(fk.begin() + static_cast<long>(begin), fk.begin() + static_cast<long>(begin + dim));
      const std::vector<double> unturned = key, value(fv.begin() + static_cast<long>(begin),
                                                      fv.begin() + static_cast<long>(begin + dim));
      for (size_t i = 0; i < rot / 2; ++i) {
        const size_t first = s.interleaved ? 2 * i : i, second = s.interleaved ? first + 1 : first + rot / 2;
        const double c = cs[t * rot + i], sine = cs[t * rot + rot / 2 + i];
        key[first] = unturned[first] * c - unturned[second] * sine;
        key[second] = unturned[second] * c + unturned[first] * sine;
      }
      // Block b lies in block (b + 1) % 3 of the copy.
      const int slot = (kSlots[t] + kBlockSize) % (kBlocks * kBlockSize);
      const auto at = static_cast<size_t>(copy.offset(slot, h));
      const std::string where = "token " + std::to_string(t) + ", head " + std::to_string(h);
      std::string wrong = check_head(where + ", k", &got_k[at], got_ks[at / dim], key);
      if (wrong.empty()) wrong = check_head(where + ", v", &got_v[at], got_vs[at / dim], value);
      if (!wrong.empty()) return wrong;
    }
  }
  return "";
}

TEST(SimtInt8Cache, WritesAndCopies) {
  for (const Shape& s : {Shape{2, 64, 64, false}, Shape{5, 80, 32, false}, Shape{1, 96, 96, true}}) {
    expect_right([&](Device& d) { return run_int8<float>(d, s); });
    expect_right([&](Device& d) { return run_int8<bf16>(d, s); });
  }
  expect_mutants_caught(
      [](Device& d) { return run_int8<bf16>(d, {2, 80, 64, false}); },
      {.plants = {"cache: any slot", "cache: half of the lanes", "copy_blocks: no guard", "rope: wrong partner"}});
}

}  // namespace
}  // namespace pf
