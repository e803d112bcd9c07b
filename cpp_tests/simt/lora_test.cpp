// Adapters on the GPU, several in one batch, against plain loops in double.
#include "ops/lora/gpu/lora.h"

#include "harness.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::f16;
using simt::Device;

struct Segment {
  int rows, slot;
};

struct Shape {
  int64_t k, n;
  int max_rank;
  std::vector<Segment> segments;
};

// Three adapters of different ranks; the rows of A and B past an adapter's rank are NaN.
template <class T>
std::string run_lora(Device& device, const Shape& s, std::vector<float>* result = nullptr) {
  const std::vector<int32_t> ranks = {s.max_rank, 8, std::max(s.max_rank - 3, 1)};
  const std::vector<float> scales = {0.5f, 2.0f, 1.0f};
  std::vector<int32_t> seg_start = {0}, seg_slots;
  for (const Segment& segment : s.segments) {
    seg_start.push_back(seg_start.back() + segment.rows);
    seg_slots.push_back(segment.slot);
  }
  const auto rows = static_cast<size_t>(seg_start.back()), k = static_cast<size_t>(s.k), n = static_cast<size_t>(s.n),
             max_rank = static_cast<size_t>(s.max_rank);
  std::vector<float> a = normal_values(3 * max_rank * k, 1, 0.2f), b = normal_values(3 * max_rank * n, 2, 0.2f);
  for (size_t slot = 0; slot < 3; ++slot) {
    for (size_t r = static_cast<size_t>(ranks[slot]); r < max_rank; ++r) {
      std::fill_n(a.begin() + static_cast<long>((slot * max_rank + r) * k), k, NAN);
      std::fill_n(b.begin() + static_cast<long>((slot * max_rank + r) * n), n, NAN);
    }
  }
  const auto x = converted<T>(normal_values(rows * k, 3)), y = converted<T>(normal_values(rows * n, 4));
  const auto ta = converted<T>(a), tb = converted<T>(b);
  const Array<T> dx(device, x, "x"), dy(device, y, "y"), da(device, ta, "a"), db(device, tb, "b");
  const Array<int32_t> dr(device, ranks, "ranks"), starts(device, seg_start, "seg_start"),
      slots(device, seg_slots, "seg_slots");
  const Array<float> ds(device, scales, "scales"), h(device, rows * max_rank, "h");
  gpu::LoraArgs<T> args = {dx.get(),  dy.get(),     da.get(),    db.get(),         dr.get(),
                           ds.get(),  starts.get(), slots.get(), h.get(),          s.k,
                           s.n,       s.k,          s.n,         seg_start.back(), static_cast<int>(s.segments.size()),
                           s.max_rank};
  gpu::lora(args, &device);
  if (result != nullptr) *result = floats(dy.values());

  const std::vector<float> fx = floats(x), fy = floats(y), fa = floats(ta), fb = floats(tb);
  std::vector<double> wanted(fy.begin(), fy.end());
  for (size_t seg = 0; seg < s.segments.size(); ++seg) {
    if (seg_slots[seg] < 0) continue;
    const auto slot = static_cast<size_t>(seg_slots[seg]);
    for (auto t = static_cast<size_t>(seg_start[seg]); t < static_cast<size_t>(seg_start[seg + 1]); ++t) {
      for (size_t r = 0; r < static_cast<size_t>(ranks[slot]); ++r) {
        double inner = 0;
        for (size_t i = 0; i < k; ++i) inner += double{fx[t * k + i]} * fa[(slot * max_rank + r) * k + i];
        for (size_t j = 0; j < n; ++j) {
          wanted[t * n + j] += scales[slot] * inner * fb[(slot * max_rank + r) * n + j];
        }
      }
    }
  }
  return difference(floats(dy.values()), wanted, 2e-5, kRounding<T>);
}

// More than a block of rows in a segment, one of a single row, an empty one, rows without an adapter.
const std::vector<Segment> kMixed = {{5, 1}, {1, -1}, {11, 0}, {0, 1}, {1, 2}, {3, -1}, {2, 0}};

TEST(SimtLora, SegmentsOfAnyRank) {
  for (const int max_rank : {8, 16, 64}) {
    const Shape shape = {136, 72, max_rank, kMixed};
    expect_right([&](Device& d) { return run_lora<float>(d, shape); });
    expect_right([&](Device& d) { return run_lora<f16>(d, shape); });
    expect_right([&](Device& d) { return run_lora<bf16>(d, shape); });
  }
  expect_right([&](Device& d) { return run_lora<bf16>(d, {520, 1048, 8, {{3, 1}, {9, 2}}}); });
  Device device;
  EXPECT_EQ(run_lora<bf16>(device, {64, 64, 8, {}}), "");
  EXPECT_THROW(run_lora<bf16>(device, {64, 64, 200, {{1, 0}}}), std::invalid_argument);
  EXPECT_THROW(run_lora<bf16>(device, {60, 64, 8, {{1, 0}}}), std::invalid_argument);
}

TEST(SimtLora, MutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_lora<bf16>(d, {136, 72, 16, kMixed}); },
                        {.block_syncs = 1, .plants = {"lora: past the columns", "lora: the neighbour's rows"}});
}

TEST(SimtLora, AloneAndInABatch) {
  Device device;
  device.options.check = false;
  std::vector<float> alone, batched;
  EXPECT_EQ(run_lora<bf16>(device, {136, 72, 16, {{1, 0}}}, &alone), "");
  EXPECT_EQ(run_lora<bf16>(device, {136, 72, 16, {{9, 0}, {4, 2}}}, &batched), "");
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), batched.begin()));
}

TEST(SimtLora, WholeSectorsAndNoConflicts) {
  // h is read eight rows at once, of four columns or, by the larger warp, of eight.
  expect_full_accesses([](Device& d) { return run_lora<bf16>(d, {256, 512, 64, {{8, 0}}}); }, gpu::kWarp == 32 ? 1 : 0,
                       2.0);
}

}  // namespace
}  // namespace pf
