// Rows of packed weights, as numbers.
#include "harness.h"
#include "ops/linear/gpu/embed.h"

namespace pf {
namespace {

using gpu::f16;
using gpu::Offset;
using gpu::QuantizedMatrix;
using gpu::WeightFormat;
using gpu::WeightLayout;
using simt::Device;

constexpr int64_t kVocab = 21;  // the last panel is not full

QuantizedMatrix drawn_matrix(const WeightLayout& layout, int64_t cols) {
  std::mt19937 random(5);
  QuantizedMatrix m;
  m.n = kVocab;
  m.k = cols;
  for (int64_t i = 0; i < m.n * m.k; ++i) {
    m.codes.push_back(static_cast<uint8_t>(random() % (layout.format == WeightFormat::kInt4 ? 16 : 256)));
  }
  const auto scales = static_cast<size_t>(m.n * cols / layout.group);
  m.scales = converted<f16>(normal_values(scales, 6));
  if (layout.offset != Offset::kNone) m.offsets = converted<f16>(normal_values(scales, 7));
  return m;
}

std::string run_embed(Device& device, const WeightLayout& layout, int64_t cols) {
  const QuantizedMatrix m = drawn_matrix(layout, cols);
  const std::vector<int32_t> ids = {20, 0, 3, 21, -1, 8};
  const Array<uint8_t> weight(device, gpu::pack_weight(m, layout), "weight");
  const Array<int32_t> dids(device, ids, "ids");
  const Array<float> y(device, ids.size() * static_cast<size_t>(cols), "y");
  gpu::embed_packed<float>(weight.get(), layout, kVocab, dids.get(), y.get(), cols, 6, cols, 0.5f, &device);
  const std::vector<float> values = y.values();
  for (size_t t = 0; t < ids.size(); ++t) {
    for (int64_t k = 0; k < cols; ++k) {
      const float value = values[t * static_cast<size_t>(cols) + static_cast<size_t>(k)];
      if (ids[t] < 0 || ids[t] >= kVocab) {
        if (!std::isnan(value)) return "a row of no token";
        continue;
      }
      const auto at = static_cast<size_t>(ids[t] * cols + k), group = at / static_cast<size_t>(layout.group);
      const float d = gpu::to_float(m.scales[group]);
      const float offset = m.offsets.empty() ? 0.0f : gpu::to_float(m.offsets[group]);
      float wanted = layout.format == WeightFormat::kInt8 ? static_cast<float>(static_cast<int8_t>(m.codes[at]))
                                                          : static_cast<float>(m.codes[at]);
      if (layout.format == WeightFormat::kInt4 && layout.offset == Offset::kNone) wanted -= 8.0f;
      if (layout.offset == Offset::kZero) wanted -= offset;
      wanted *= d;
      if (layout.offset == Offset::kMinimum) wanted += offset;
      if (value != wanted * 0.5f) return "wrong value in row " + std::to_string(t) + ", column " + std::to_string(k);
    }
  }
  return "";
}

TEST(SimtEmbedPacked, EveryLayout) {
  for (const int group : {32, 64, 128}) {
    for (const WeightLayout& layout : {WeightLayout{WeightFormat::kInt8, group, Offset::kNone},
                                       WeightLayout{WeightFormat::kInt4, group, Offset::kNone},
                                       WeightLayout{WeightFormat::kInt4, group, Offset::kMinimum},
                                       WeightLayout{WeightFormat::kInt4, group, Offset::kZero}}) {
      expect_right([&](Device& d) { return run_embed(d, layout, 384); });
    }
  }
  expect_right([](Device& d) { return run_embed(d, {WeightFormat::kInt8, 32, Offset::kNone}, 96); });
  expect_mutants_caught([](Device& d) { return run_embed(d, {WeightFormat::kInt4, 32, Offset::kMinimum}, 96); },
                        {.plants = {"embed: any id", "embed: no guard"}});
}

}  // namespace
}  // namespace pf
