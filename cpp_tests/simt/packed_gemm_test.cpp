// The GPU's GEMM with packed weights, and the packing itself.
#include "gemm_case.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::f16;
using gpu::Offset;
using simt::Device;

std::vector<WeightLayout> every_layout() {
  std::vector<WeightLayout> layouts;
  for (const int group : {0, 32, 64, 128}) {
    for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kE4m3}) {
      layouts.push_back({format, group, Offset::kNone});
    }
    if (group == 0) continue;
    layouts.push_back({WeightFormat::kInt4, group, Offset::kMinimum});
    layouts.push_back({WeightFormat::kInt4, group, Offset::kZero});
  }
  return layouts;
}

// Several blocks of rows and columns, the last of each ragged; a k that ends inside a tile where groups are short.
LinearCase ragged(const WeightLayout& layout, int64_t m) {
  return {.m = m, .n = 76, .k = layout.group >= 64 ? 128 : 96, .layout = layout, .scales = true};
}

TEST(SimtPackedGemm, FloatInEveryLayout) {
  for (const WeightLayout& layout : every_layout()) {
    if (kCheckBuild && layout.group > 32) continue;  // they take the same steps, and time
    LinearCase c = ragged(layout, 20);
    c.n = 140;
    expect_right([&](Device& d) { return run_linear<float>(d, c); });
  }
}

TEST(SimtPackedGemm, FloatMutantsAreNoticed) {
  expect_mutants_caught(
      [](Device& d) {
        return run_linear<float>(d, {.m = 66, .n = 76, .k = 96, .layout = {WeightFormat::kInt4, 32, Offset::kZero}});
      },
      {.block_syncs = 2, .plants = {"gemm: rows past the end", "gemm: scale of another group"}});
}

TEST(SimtPackedGemm, TensorCoresInEveryLayout) {
  for (const WeightLayout& layout : every_layout()) {
    expect_right([&](Device& d) { return run_linear<bf16>(d, ragged(layout, 18)); });
    expect_right([&](Device& d) { return run_linear<f16>(d, ragged(layout, 66)); });
  }
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kE4m3}) {
    expect_right([&](Device& d) { return run_linear<f16>(d, ragged({format, 32, Offset::kNone}, 18)); });
    expect_right([&](Device& d) { return run_linear<bf16>(d, ragged({format, 32, Offset::kNone}, 66)); });
  }
}

TEST(SimtPackedGemm, TensorCoreMutantsAreNoticed) {
  Mutants mutants = {.block_syncs = 3,
                     .async_waits = 2,
                     .plants = {"gemm: fragment", "gemm: past the panels", "gemm: past the row",
                                "gemm: rows past the end", "gemm: scale of another group"}};
  // Lanes of MFMA put their codes together from halves.
  if (gpu::kWarp == 64) mutants.plants.insert(mutants.plants.begin() + 1, "gemm: other half of the codes");
  // Eight panels and a half: the second block of columns reaches past the last one.
  expect_mutants_caught(
      [](Device& d) {
        return run_linear<bf16>(d, {.m = 18, .n = 40, .k = 416, .layout = {WeightFormat::kInt4, 32, Offset::kMinimum}});
      },
      mutants);
}

TEST(SimtPackedGemm, TensorCoreAccessesAreFull) {
  for (const int64_t m : {16, 65}) {
    for (const WeightLayout& layout : every_layout()) {
      expect_full_accesses(
          [&](Device& d) { return run_linear<bf16>(d, {.m = m, .n = 128, .k = 128, .layout = layout, .bias = true}); },
          kConflictsOfPacked, 4.0);
    }
  }
}

// A packed weight gives what the plain one that holds its numbers gives, bit for bit.
TEST(SimtPackedGemm, BitsAreThoseOfTheDequantizedWeight) {
  if (kCheckBuild) return;
  constexpr int64_t kM = 5, kN = 40, kK = 192;
  const WeightLayout layout = {WeightFormat::kInt4, 64, Offset::kZero};
  const Drawn packed = drawn_weight<bf16>(layout, 1, kN, kK, 2);
  std::vector<float> numbers(packed.numbers.begin(), packed.numbers.end());
  Device device;
  const Array<bf16> x(device, converted<bf16>(normal_values(kM * kK, 1)), "x"),
      plain(device, converted<bf16>(numbers), "plain");
  const Array<uint8_t> codes(device, packed.data, "codes");
  std::vector<std::vector<float>> results;
  for (const bool is_packed : {true, false}) {
    const Array<float> y(device, kM * kN, "y");
    gpu::LinearArgs<bf16> args;
    args.x = x.get();
    args.weight.data = is_packed ? static_cast<const void*>(codes.get()) : plain.get();
    if (is_packed) args.weight.layout = layout;
    args.weight.n = kN;
    args.weight.k = args.weight.stride = args.x_stride = kK;
    args.y_float = y.get();
    args.y_stride = kN;
    args.rows = kM;
    gpu::linear(args, &device);
    results.push_back(y.values());
  }
  EXPECT_EQ(results[0], results[1]);
}

// Where the packed record keeps the code of (row, k), read back by another way than it was written.
uint8_t code_at(const std::vector<uint8_t>& packed, const WeightLayout& layout, int64_t n, int64_t row, int64_t k) {
  const int64_t panels = (n + 7) / 8;
  const uint8_t* record = packed.data() + (k / 64 * panels + row / 8) * layout.record_bytes();
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 16; ++i) {
      const int s = i / 4, column = 16 * s + 2 * (lane % 4) + (i % 4 < 2 ? i % 4 : 6 + i % 4);
      if (lane / 4 != row % 8 || column != k % 64) continue;
      if (layout.format != WeightFormat::kInt4) return record[lane * 16 + i];
      uint32_t word;
      memcpy(&word, record + lane * 8 + s / 2 * 4, 4);
      const int pair = s % 2 * 2 + i % 4 / 2;
      return static_cast<uint8_t>(word >> (4 * pair + (i % 2 == 0 ? 0 : 16)) & 15);
    }
  }
  return 0;
}

// Values of a file's own formula against those of codes, scale and offset.
TEST(SimtPackedGemm, FilesArePackedWithoutLoss) {
  constexpr int64_t kN = 16, kK = 128;
  std::mt19937 generator(11);
  const auto half = [&](float scale) {
    return gpu::from_float<f16>(scale * (1.0f + static_cast<float>(generator() % 1000) / 1000.0f));
  };

  // Q4_1: d, m, and 16 bytes whose low halves come first.
  std::vector<uint8_t> blocks;
  std::vector<float> wanted;
  for (int64_t b = 0; b < kN * kK / 32; ++b) {
    const f16 d = half(0.1f), m = half(-1.0f);
    uint8_t bytes[20];
    memcpy(bytes, &d, 2);
    memcpy(bytes + 2, &m, 2);
    for (int i = 0; i < 16; ++i) bytes[4 + i] = static_cast<uint8_t>(generator());
    for (int i = 0; i < 32; ++i) {
      const int q = i < 16 ? bytes[4 + i] & 15 : bytes[4 + i - 16] >> 4;
      wanted.push_back(gpu::to_float(d) * static_cast<float>(q) + gpu::to_float(m));
    }
    blocks.insert(blocks.end(), bytes, bytes + 20);
  }
  const WeightLayout layout = {WeightFormat::kInt4, 32, Offset::kMinimum};
  const gpu::QuantizedMatrix q4_1 = gpu::from_q4_1(blocks.data(), kN, kK);
  const std::vector<uint8_t> packed = gpu::pack_weight(q4_1, layout);
  EXPECT_EQ(packed.size(), gpu::packed_bytes(layout, kN, kK));
  for (int64_t i = 0; i < kN * kK; ++i) {
    const uint8_t q = code_at(packed, layout, kN, i / kK, i % kK);
    const auto group = static_cast<size_t>(i / 32);
    ASSERT_EQ(static_cast<float>(q) * gpu::to_float(q4_1.scales[group]) + gpu::to_float(q4_1.offsets[group]),
              wanted[static_cast<size_t>(i)]);
  }

  // Q8_0 and Q4_0 differ from it in the head and in what a code means.
  const gpu::QuantizedMatrix q8_0 = gpu::from_q8_0(blocks.data(), 1, 32), q4_0 = gpu::from_q4_0(blocks.data(), 1, 32);
  EXPECT_EQ(q8_0.codes, std::vector<uint8_t>(blocks.begin() + 2, blocks.begin() + 34));
  EXPECT_EQ(q4_0.codes[0], blocks[2] & 15);
  EXPECT_EQ(q4_0.codes[16], blocks[2] >> 4);
  const WeightLayout bytes = {WeightFormat::kInt8, 32, Offset::kNone};
  EXPECT_EQ(code_at(gpu::pack_weight(q8_0, bytes), bytes, 1, 0, 5), static_cast<uint8_t>(blocks[7] + 128));

  // GPTQ and AWQ keep the same numbers in other orders.
  constexpr int kGroup = 64;
  std::vector<uint8_t> codes(kN * kK), zeros(kN * kK / kGroup);
  std::vector<f16> scales(kN * kK / kGroup);
  for (uint8_t& code : codes) code = generator() % 16;
  for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(1 + generator() % 15);
  for (f16& scale : scales) scale = half(0.05f);
  std::vector<uint32_t> gptq(kK / 8 * kN), gptq_zeros(kK / kGroup * kN / 8), awq(kK * kN / 8),
      awq_zeros(kK / kGroup * kN / 8);
  const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};
  for (int64_t row = 0; row < kN; ++row) {
    for (int64_t k = 0; k < kK; ++k) {
      const uint32_t code = codes[static_cast<size_t>(row * kK + k)];
      gptq[static_cast<size_t>(k / 8 * kN + row)] |= code << (4 * (k % 8));
      for (int place = 0; place < 8; ++place) {
        if (order[place] == row % 8) awq[static_cast<size_t>((k * kN + row) / 8)] |= code << (4 * place);
      }
    }
    for (int64_t g = 0; g < kK / kGroup; ++g) {
      const uint32_t zero = zeros[static_cast<size_t>(g * kN + row)];
      gptq_zeros[static_cast<size_t>((g * kN + row) / 8)] |= (zero - 1) << (4 * (row % 8));
      for (int place = 0; place < 8; ++place) {
        if (order[place] == row % 8) awq_zeros[static_cast<size_t>((g * kN + row) / 8)] |= zero << (4 * place);
      }
    }
  }
  const auto from_gptq = gpu::from_gptq(gptq.data(), gptq_zeros.data(), scales.data(), kN, kK, kGroup, true);
  const auto from_awq = gpu::from_awq(awq.data(), awq_zeros.data(), scales.data(), kN, kK, kGroup);
  for (const gpu::QuantizedMatrix& m : {from_gptq, from_awq}) {
    EXPECT_EQ(m.codes, codes);
    for (int64_t row = 0; row < kN; ++row) {
      for (int64_t g = 0; g < kK / kGroup; ++g) {
        const auto at = static_cast<size_t>(row * (kK / kGroup) + g);
        EXPECT_EQ(m.scales[at].bits, scales[static_cast<size_t>(g * kN + row)].bits);
        EXPECT_EQ(gpu::to_float(m.offsets[at]), zeros[static_cast<size_t>(g * kN + row)]);
      }
    }
  }
}

TEST(SimtPackedGemm, WhatCannotBePackedIsRefused) {
  const gpu::QuantizedMatrix m = {1, 32, std::vector<uint8_t>(32, 3), {f16{0x3c00}}, {}};
  EXPECT_NO_THROW(gpu::pack_weight(m, {WeightFormat::kInt4, 32, Offset::kNone}));
  EXPECT_THROW(gpu::pack_weight(m, {WeightFormat::kInt4, 16, Offset::kNone}), std::invalid_argument);
  EXPECT_THROW(gpu::pack_weight(m, {WeightFormat::kInt4, 64, Offset::kNone}), std::invalid_argument);
  EXPECT_THROW(gpu::pack_weight(m, {WeightFormat::kInt4, 32, Offset::kZero}), std::invalid_argument);
  EXPECT_THROW(gpu::pack_weight(m, {WeightFormat::kInt8, 32, Offset::kMinimum}), std::invalid_argument);
  EXPECT_THROW(gpu::pack_weight(m, {WeightFormat::kPlain, 0, Offset::kNone}), std::invalid_argument);
  gpu::QuantizedMatrix wide = m;
  wide.codes[0] = 16;
  EXPECT_THROW(gpu::pack_weight(wide, {WeightFormat::kInt4, 32, Offset::kNone}), std::invalid_argument);
}

}  // namespace
}  // namespace pf
