// The GPU's mixture of experts: routing, alignment, and the whole against the formula in double.
#include "ops/moe/gpu/moe.h"

#include "gemm_case.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::f16;
using gpu::Offset;
using simt::Device;

// --- routing ---------------------------------------------------------------------------------------------------------

struct Routing {
  int tokens, experts, top_k;
  bool sigmoid = false, renormalize = true, bias = false, ties = false;
};

template <class T>
std::string run_route(Device& device, const Routing& r) {
  const int64_t stride = r.experts + 3;
  std::vector<float> drawn = normal_values(static_cast<size_t>(r.tokens * stride), 1, 2.0f);
  if (r.ties) {
    for (float& value : drawn) value = std::round(value);
  }
  const auto logits = converted<T>(drawn);
  const std::vector<float> bias = normal_values(static_cast<size_t>(r.experts), 2);
  const Array<T> dlogits(device, logits, "logits");
  const Array<float> dbias(device, bias, "bias"), weights(device, static_cast<size_t>(r.tokens * r.top_k), "weights");
  const Array<int32_t> ids(device, static_cast<size_t>(r.tokens * r.top_k), "ids");
  constexpr float kScale = 2.5f;
  gpu::moe_route<T>({dlogits.get(), r.bias ? dbias.get() : nullptr, ids.get(), weights.get(), stride, r.tokens,
                     r.experts, r.top_k, r.sigmoid, r.renormalize, kScale},
                    &device);

  std::vector<double> wanted;
  const std::vector<int32_t> chosen = ids.values();
  for (int t = 0; t < r.tokens; ++t) {
    std::vector<double> scores, keys;
    double sum = 0;
    for (int e = 0; e < r.experts; ++e) {
      const double logit = gpu::to_float(logits[static_cast<size_t>(t * stride + e)]);
      scores.push_back(r.sigmoid ? 1 / (1 + std::exp(-logit)) : std::exp(logit));
      keys.push_back(logit);
      sum += scores.back();
    }
    for (int e = 0; e < r.experts; ++e) {
      const auto at = static_cast<size_t>(e);
      if (!r.sigmoid) scores[at] /= sum;
      if (r.bias) keys[at] = scores[at] + bias[at];
    }
    std::vector<int> order(static_cast<size_t>(r.experts));
    for (int e = 0; e < r.experts; ++e) order[static_cast<size_t>(e)] = e;
    std::ranges::stable_sort(order,
                             [&](int a, int b) { return keys[static_cast<size_t>(a)] > keys[static_cast<size_t>(b)]; });
    double total = 0;
    for (int j = 0; j < r.top_k; ++j) total += scores[static_cast<size_t>(order[static_cast<size_t>(j)])];
    for (int j = 0; j < r.top_k; ++j) {
      const int id = order[static_cast<size_t>(j)], got = chosen[static_cast<size_t>(t * r.top_k + j)];
      if (got != id) return "expert " + std::to_string(got) + " instead of " + std::to_string(id);
      wanted.push_back(scores[static_cast<size_t>(id)] / (r.renormalize ? total : 1) * kScale);
    }
  }
  return difference(weights.values(), wanted, 1e-6, 1e-5);
}

TEST(SimtMoe, RoutesByEveryRule) {
  for (const bool sigmoid : {false, true}) {
    for (const bool renormalize : {false, true}) {
      expect_right([&](Device& d) { return run_route<float>(d, {9, 8, 2, sigmoid, renormalize}); });
      expect_right([&](Device& d) { return run_route<bf16>(d, {5, 70, 6, sigmoid, renormalize, false, true}); });
      expect_right([&](Device& d) { return run_route<f16>(d, {3, 130, 8, sigmoid, renormalize, true}); });
    }
  }
  expect_right([](Device& d) { return run_route<float>(d, {4, 3, 3}); });
  Device device;
  EXPECT_THROW((run_route<float>(device, {4, 3, 4})), std::invalid_argument);
}

TEST(SimtMoe, ALogitThatIsNanIsChosenAndShows) {
  for (const bool sigmoid : {false, true}) {
    Device device;
    const Array<float> logits(device, {1.0f, NAN, 2.0f, 0.5f}, "logits"), weights(device, 2, "weights");
    const Array<int32_t> ids(device, 2, "ids");
    gpu::moe_route<float>({logits.get(), nullptr, ids.get(), weights.get(), 4, 1, 4, 2, sigmoid, true, 1.0f}, &device);
    EXPECT_EQ(ids.values(), (std::vector<int32_t>{1, 2}));
    EXPECT_TRUE(std::isnan(weights.values()[0]));
  }
}

TEST(SimtMoe, RouteMutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_route<float>(d, {9, 8, 2}); },
                        {.plants = {"route: takes one twice"}});
}

// --- alignment -------------------------------------------------------------------------------------------------------

std::vector<int32_t> drawn_ids(int64_t slots, int experts, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<int32_t> ids;
  // The first expert takes half, the last none; some belong to another device.
  for (int64_t i = 0; i < slots; ++i) {
    const auto draw = static_cast<int32_t>(generator() % (2 * static_cast<unsigned>(experts)));
    ids.push_back(draw >= experts ? 0 : draw == experts - 1 ? -1 : draw);
  }
  return ids;
}

std::string run_align(Device& device, int64_t slots, int experts, int block_rows) {
  const std::vector<int32_t> ids = drawn_ids(slots, experts, 3);
  const int64_t blocks = gpu::moe_blocks(slots, experts, block_rows);
  const Array<int32_t> dids(device, ids, "ids"), block_expert(device, static_cast<size_t>(blocks), "block_expert"),
      block_slots(device, static_cast<size_t>(blocks * block_rows), "block_slots");
  gpu::moe_align({dids.get(), block_expert.get(), block_slots.get(), slots, experts, block_rows}, &device);
  std::vector<int32_t> wanted_experts, wanted_slots;
  for (int e = 0; e < experts; ++e) {
    for (int64_t i = 0; i < slots; ++i) {
      if (ids[static_cast<size_t>(i)] == e) wanted_slots.push_back(static_cast<int32_t>(i));
    }
    while (wanted_slots.size() % static_cast<size_t>(block_rows) != 0) wanted_slots.push_back(-1);
    wanted_experts.resize(wanted_slots.size() / static_cast<size_t>(block_rows), e);
  }
  if (wanted_experts.size() > static_cast<size_t>(blocks)) return "more blocks than moe_blocks says";
  wanted_experts.resize(static_cast<size_t>(blocks), -1);
  if (block_expert.values() != wanted_experts) return "other experts of blocks";
  std::vector<int32_t> got = block_slots.values();
  got.resize(wanted_slots.size());
  return got == wanted_slots ? "" : "other slots";
}

TEST(SimtMoe, AlignsSlotsByExpert) {
  expect_right([](Device& d) { return run_align(d, 6, 4, 16); });
  expect_right([](Device& d) { return run_align(d, 700, 5, 16); });
  expect_right([](Device& d) { return run_align(d, 300, 300, 64); });
}

TEST(SimtMoe, AlignMutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_align(d, 600, 5, 16); }, {.block_syncs = 5});
}

// --- the whole -------------------------------------------------------------------------------------------------------

struct Mixture {
  int tokens, top_k, experts;
  int64_t hidden, inner;
  WeightLayout layout = {};
  bool residual = false;
  bool together = false;  // experts are packed as one matrix
};

gpu::GemmWeight weight_of(const Array<uint8_t>& data, const WeightLayout& layout, int64_t n, int64_t k,
                          const Array<float>& scale) {
  gpu::GemmWeight w;
  w.data = data.get();
  w.n = n;
  w.k = w.stride = k;
  w.layout = layout;
  w.column_scale = scale.get();
  return w;
}

template <class T>
std::string run_moe(Device& device, const Mixture& m, std::vector<float>* result = nullptr) {
  const int64_t slots = int64_t{m.tokens} * m.top_k;
  const auto x = converted<T>(normal_values(static_cast<size_t>(m.tokens * m.hidden), 1)),
             residual = converted<T>(normal_values(static_cast<size_t>(m.tokens * m.hidden), 2));
  const std::vector<int32_t> ids = drawn_ids(slots, m.experts, 4);
  const std::vector<float> weights = normal_values(static_cast<size_t>(slots), 5);
  const Drawn up = drawn_weight<T>(m.layout, m.experts, 2 * m.inner, m.hidden, 6, m.together),
              down = drawn_weight<T>(m.layout, m.experts, m.hidden, m.inner, 7, m.together);
  // One scale an expert, so that sums are about 1.
  const float unit = m.layout.format != WeightFormat::kPlain && m.layout.group == 0 ? 0.01f : 1.0f;
  const auto scales_of = [&](int64_t n, int64_t k) {
    std::vector<float> scales;
    for (int e = 0; e < m.experts; ++e) {
      scales.insert(scales.end(), static_cast<size_t>(n),
                    unit * (1.0f + 0.1f * static_cast<float>(e)) / std::sqrt(static_cast<float>(k)));
    }
    return scales;
  };
  const std::vector<float> up_scale = scales_of(2 * m.inner, m.hidden), down_scale = scales_of(m.hidden, m.inner);
  const Array<T> dx(device, x, "x"), dresidual(device, residual, "residual"), y(device, x.size(), "y");
  const Array<int32_t> dids(device, ids, "ids");
  const Array<float> dweights(device, weights, "weights"), dup_scale(device, up_scale, "up_scale"),
      ddown_scale(device, down_scale, "down_scale");
  const Array<uint8_t> dup(device, up.data, "gate_up"), ddown(device, down.data, "down"),
      scratch(device, gpu::moe_scratch<T>(m.tokens, m.top_k, m.experts, m.hidden, m.inner), "scratch");
  gpu::MoeArgs<T> args{};
  args.x = dx.get();
  args.ids = dids.get();
  args.weights = dweights.get();
  args.gate_up = weight_of(dup, m.layout, 2 * m.inner, m.hidden, dup_scale);
  args.down = weight_of(ddown, m.layout, m.hidden, m.inner, ddown_scale);
  if (m.together) {
    args.gate_up.packed_rows = m.experts * args.gate_up.n;
    args.down.packed_rows = m.experts * args.down.n;
  }
  if (m.residual) args.residual = dresidual.get();
  args.y = y.get();
  args.scratch = scratch.get();
  args.x_stride = args.y_stride = args.residual_stride = m.hidden;
  args.tokens = m.tokens;
  args.experts = m.experts;
  args.top_k = m.top_k;
  gpu::moe(args, &device);

  const auto rounded = [](double v) { return double{gpu::to_float(gpu::from_float<T>(static_cast<float>(v)))}; };
  std::vector<double> wanted;
  for (int t = 0; t < m.tokens; ++t) {
    std::vector<double> sums(static_cast<size_t>(m.hidden));
    for (int64_t h = 0; h < m.hidden && m.residual; ++h) {
      sums[static_cast<size_t>(h)] = gpu::to_float(residual[static_cast<size_t>(t * m.hidden + h)]);
    }
    for (int j = 0; j < m.top_k; ++j) {
      const int e = ids[static_cast<size_t>(t * m.top_k + j)];
      if (e < 0) continue;
      std::vector<double> inner;
      for (int64_t i = 0; i < m.inner; ++i) {
        double gate_up[2] = {};
        for (int64_t part = 0; part < 2; ++part) {
          const int64_t row = int64_t{e} * 2 * m.inner + 2 * i + part;
          for (int64_t h = 0; h < m.hidden; ++h) {
            gate_up[part] += gpu::to_float(x[static_cast<size_t>(t * m.hidden + h)]) *
                             up.numbers[static_cast<size_t>(row * m.hidden + h)];
          }
          gate_up[part] *= up_scale[static_cast<size_t>(row)];
        }
        inner.push_back(rounded(silu(gate_up[0]) * gate_up[1]));
      }
      for (int64_t h = 0; h < m.hidden; ++h) {
        const int64_t row = int64_t{e} * m.hidden + h;
        double sum = 0;
        for (int64_t i = 0; i < m.inner; ++i) {
          sum += inner[static_cast<size_t>(i)] * down.numbers[static_cast<size_t>(row * m.inner + i)];
        }
        sums[static_cast<size_t>(h)] +=
            weights[static_cast<size_t>(t * m.top_k + j)] * rounded(sum * down_scale[static_cast<size_t>(row)]);
      }
    }
    wanted.insert(wanted.end(), sums.begin(), sums.end());
  }
  if (result != nullptr) *result = floats(y.values());
  // Rounding the inner and the slots' values may fall to the other side.
  return difference(floats(y.values()), wanted, sizeof(T) == 4 ? 2e-5 : 6 * kRounding<T>, 2 * kRounding<T>);
}

TEST(SimtMoe, ExpertsOfEveryType) {
  const WeightLayout layouts[] = {{},
                                  {WeightFormat::kInt8, 0, Offset::kNone},
                                  {WeightFormat::kInt4, 32, Offset::kZero},
                                  {WeightFormat::kE4m3, 0, Offset::kNone}};
  for (const WeightLayout& layout : layouts) {
    // 16 rows a block, several blocks for the first expert and none for the last.
    expect_right([&](Device& d) { return run_moe<float>(d, {19, 3, 5, 64, 32, layout}); });
    expect_right([&](Device& d) { return run_moe<bf16>(d, {19, 3, 5, 64, 32, layout, true}); });
    expect_right([&](Device& d) { return run_moe<f16>(d, {41, 2, 3, 32, 64, layout}); });  // 64 rows a block
  }
  expect_right([](Device& d) { return run_moe<float>(d, {5, 2, 3, 31, 17, {}, true}); });
}

TEST(SimtMoe, ExpertsPackedAsOneMatrix) {
  const WeightLayout int8 = {WeightFormat::kInt8, 32, Offset::kNone},
                     int4 = {WeightFormat::kInt4, 32, Offset::kMinimum};
  for (const WeightLayout& layout : {int8, int4}) {  // several tiles of k, and a last one that is not whole
    expect_right([&](Device& d) { return run_moe<float>(d, {9, 2, 3, 96, 160, layout, false, true}); });
    expect_right([&](Device& d) { return run_moe<bf16>(d, {9, 2, 3, 96, 160, layout, false, true}); });
    expect_right([&](Device& d) { return run_moe<f16>(d, {41, 2, 2, 96, 96, layout, false, true}); });
  }
}

// Those of the other kernels are in their own tests.
TEST(SimtMoe, CombineMutantsAreNoticed) {
  if (!kCheckBuild) return;
  Device device;
  device.options.drop = simt::SyncSite{simt::SyncSite::kPlant, "combine: foreign experts"};
  const Case run = [](Device& d) { return run_moe<float>(d, {12, 3, 4, 32, 16}); };
  EXPECT_NE(run_case(run, device), "");
}

TEST(SimtMoe, ATokenAloneAndInABatch) {
  if (kCheckBuild) return;
  const auto run = [](int tokens) {
    Device device;
    std::vector<float> result;
    EXPECT_EQ((run_moe<float>(device, {tokens, 2, 3, 32, 16}, &result)), "");
    result.resize(32);
    return result;
  };
  const std::vector<float> alone = run(1);
  EXPECT_EQ(alone, run(9));
  EXPECT_EQ(alone, run(60));  // in blocks of 64 rows
}

}  // namespace
}  // namespace pf
