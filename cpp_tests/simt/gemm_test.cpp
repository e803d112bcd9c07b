// The GPU's GEMM against its formula in double, for dense weights.
#include "gemm_case.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

// Ragged in every direction, with several blocks of rows and of columns.
TEST(SimtGemm, FloatOfAnyShape) {
  expect_right([](Device& d) { return run_linear<float>(d, {.m = 66, .n = 72, .k = 44}); });
  expect_right([](Device& d) { return run_linear<float>(d, {.m = 3, .n = 133, .k = 37}); });
  expect_right([](Device& d) { return run_linear<float>(d, {.m = 1, .n = 1, .k = 1}); });
}

TEST(SimtGemm, FloatWithEverythingAfterTheSum) {
  expect_right([](Device& d) {
    return run_linear<float>(d,
                             {.m = 70, .n = 68, .k = 64, .bias = true, .residual = true, .scales = true, .padding = 4});
  });
  expect_right([](Device& d) {
    return run_linear<float>(d, {.m = 5, .n = 130, .k = 40, .bias = true, .silu_mul = true, .padding = 3});
  });
}

TEST(SimtGemm, FloatMutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_linear<float>(d, {.m = 66, .n = 68, .k = 70}); },
                        {.block_syncs = 2, .plants = {"gemm: past the row", "gemm: rows past the end"}});
}

TEST(SimtGemm, FloatAccessesAreFull) {
  expect_full_accesses([](Device& d) { return run_linear<float>(d, {.m = 64, .n = 128, .k = 64, .bias = true}); });
}

// Rows choose the tile: small, medium, large; columns and k are ragged in each.
TEST(SimtGemm, TensorCoresInEveryTile) {
  for (const LinearCase& c : {LinearCase{.m = 21, .n = 72, .k = 456},
                              {.m = 70, .n = 264, .k = 72, .bias = true},
                              {.m = 150, .n = 136, .k = 136, .residual = true, .padding = 8}}) {
    expect_right([&](Device& d) { return run_linear<bf16>(d, c); });
    expect_right([&](Device& d) { return run_linear<f16>(d, c); });
  }
}

TEST(SimtGemm, TensorCoresWithEverythingAfterTheSum) {
  expect_right([](Device& d) {
    return run_linear<bf16>(d, {.m = 18, .n = 68, .k = 64, .bias = true, .residual = true, .silu_mul = true});
  });
  expect_right([](Device& d) { return run_linear<f16>(d, {.m = 3, .n = 70, .k = 128, .float_output = true}); });
}

#if GPU_HAS_FP8_MMA
TEST(SimtGemm, EightBitFloats) {
  expect_right([](Device& d) { return run_linear<e4m3>(d, {.m = 21, .n = 72, .k = 208, .scales = true}); });
  expect_right([](Device& d) { return run_linear<e4m3>(d, {.m = 70, .n = 136, .k = 144, .scales = true}); });
  expect_right([](Device& d) {
    return run_linear<e4m3>(d, {.m = 130, .n = 130, .k = 128, .float_output = true, .scales = true, .padding = 16});
  });
}
#endif

TEST(SimtGemm, EightBitIntegers) {
  expect_right([](Device& d) { return run_linear<int8_t>(d, {.m = 21, .n = 72, .k = 208, .scales = true}); });
  expect_right([](Device& d) {
    return run_linear<int8_t>(d, {.m = 130, .n = 130, .k = 144, .bias = true, .scales = true, .padding = 16});
  });
  // Whole numbers come out as they are.
  Device device;
  std::vector<float> values;
  EXPECT_EQ((run_linear<int8_t>(device, {.m = 3, .n = 8, .k = 48, .float_output = true}, &values)), "");
  for (const float value : values) EXPECT_EQ(value, std::round(value));
}

// Rows that are no whole vectors go without tensor cores.
TEST(SimtGemm, RowsOfOddLengths) {
  expect_right([](Device& d) { return run_linear<bf16>(d, {.m = 9, .n = 70, .k = 131, .padding = 1}); });
  Device device;
  EXPECT_THROW((run_linear<e4m3>(device, {.m = 4, .n = 8, .k = 24})), std::invalid_argument);
  EXPECT_THROW((run_linear<bf16>(device, {.m = 4, .n = 7, .k = 24, .silu_mul = true})), std::invalid_argument);
}

TEST(SimtGemm, ARowHasTheSameBitsInEveryTile) {
  if (kCheckBuild) return;
  std::vector<std::vector<float>> first_rows;
  for (const int64_t m : {1, 70, 140}) {
    Device device;
    std::vector<float> values;
    EXPECT_EQ((run_linear<bf16>(device, {.m = m, .n = 136, .k = 264, .float_output = true}, &values)), "");
    values.resize(136);
    first_rows.push_back(values);
  }
  EXPECT_EQ(first_rows[0], first_rows[1]);
  EXPECT_EQ(first_rows[0], first_rows[2]);
}

TEST(SimtGemm, TensorCoreMutantsAreNoticed) {
  const Mutants mutants = {.block_syncs = 3,
                           .async_waits = 2,
                           .plants = {"gemm: fragment", "gemm: past the row", "gemm: rows past the end"}};
  // The last tile of k lies in a stage that the sums will cover.
  expect_mutants_caught([](Device& d) { return run_linear<bf16>(d, {.m = 18, .n = 40, .k = 424}); }, mutants);
  expect_mutants_caught([](Device& d) { return run_linear<bf16>(d, {.m = 130, .n = 72, .k = 264}); }, mutants);
}

TEST(SimtGemm, TensorCoreAccessesAreFull) {
  for (const int64_t m : {16, 64, 256}) {
    expect_full_accesses(
        [&](Device& d) {
          return run_linear<bf16>(d, {.m = m, .n = 8192 / m, .k = 192, .bias = true, .residual = true});
        },
        kConflictsOfPlain, 2.0);
  }
#if GPU_HAS_FP8_MMA
  expect_full_accesses([](Device& d) { return run_linear<e4m3>(d, {.m = 16, .n = 64, .k = 256}); }, kConflictsOfPlain,
                       2.0);
#endif
}

}  // namespace
}  // namespace pf
