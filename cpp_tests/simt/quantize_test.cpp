// Rows of activations as 8-bit floats, alone and before a GEMM of them.
#include "ops/linear/gpu/quantize.h"

#include "gemm_case.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

template <class T>
std::string run_quantize(Device& device, int64_t rows, int64_t cols, int64_t padding) {
  const int64_t stride = cols + padding;
  auto drawn = normal_values(static_cast<size_t>(rows * stride), 1);
  for (int64_t i = 0; i < cols; ++i) drawn[static_cast<size_t>(i)] = 0.0f;  // the first row has no magnitude
  const auto x = converted<T>(drawn);
  const Array<T> dx(device, x, "x");
  const Array<e4m3> y(device, static_cast<size_t>(rows * cols), "y");
  const Array<float> scale(device, static_cast<size_t>(rows), "scale");
  gpu::quantize_rows<T>({dx.get(), y.get(), scale.get(), rows, cols, stride, cols}, &device);
  const std::vector<float> scales = scale.values();
  const std::vector<e4m3> codes = y.values();
  std::vector<double> wanted;
  for (int64_t row = 0; row < rows; ++row) {
    float largest = 0.0f;
    const auto value = [&](int64_t i) { return gpu::to_float(x[static_cast<size_t>(row * stride + i)]); };
    for (int64_t i = 0; i < cols; ++i) largest = std::max(largest, std::abs(value(i)));
    wanted.push_back(double{largest} / 448);
    const float inverse = largest == 0.0f ? 0.0f : 1.0f / (largest / 448.0f);
    for (int64_t i = 0; i < cols; ++i) {
      const uint8_t code = gpu::from_float<e4m3>(value(i) * inverse).bits;
      if (codes[static_cast<size_t>(row * cols + i)].bits != code) return "another code";
    }
  }
  return difference(scales, wanted, 0, 1e-6);
}

TEST(SimtQuantize, RowsOfEveryLength) {
  for (const int64_t cols : {16, 1040, 4096}) {
    expect_right([&](Device& d) { return run_quantize<bf16>(d, 3, cols, 0); });
    expect_right([&](Device& d) { return run_quantize<f16>(d, 5, cols, 8); });
  }
  Device device;
  EXPECT_THROW((run_quantize<bf16>(device, 2, 20, 0)), std::invalid_argument);
}

TEST(SimtQuantize, WhatIsNotFiniteShows) {
  Device device;
  std::vector<float> values(32, 1.0f);
  values[3] = NAN;
  values[16 + 5] = INFINITY;
  const Array<bf16> x(device, converted<bf16>(values), "x");
  const Array<e4m3> y(device, 32, "y");
  const Array<float> scale(device, 2, "scale");
  gpu::quantize_rows<bf16>({x.get(), y.get(), scale.get(), 2, 16, 16, 16}, &device);
  const std::vector<float> codes = floats(y.values());
  EXPECT_TRUE(std::isnan(codes[3]));
  EXPECT_EQ(codes[0], 448.0f);
  EXPECT_TRUE(std::isnan(codes[16 + 5]));
  EXPECT_EQ(scale.values()[1], INFINITY);  // so that all sums of the row become NaN
}

TEST(SimtQuantize, MutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_quantize<bf16>(d, 3, 2064, 0); },
                        {.block_syncs = 1, .plants = {"quantize: past the row"}});
}

TEST(SimtQuantize, AccessesAreFull) {
  expect_full_accesses([](Device& d) { return run_quantize<bf16>(d, 3, 4096, 0); });
}

#if GPU_HAS_FP8_MMA

// Rounding x and w to four bits each costs some percent of a sum's magnitude.
TEST(SimtQuantize, AProductOfQuantizedRows) {
  constexpr int64_t kM = 5, kN = 24, kK = 256;
  const std::vector<float> x = normal_values(kM * kK, 1), w = normal_values(kN * kK, 2);
  Device device;
  const Array<bf16> dx(device, converted<bf16>(x), "x"), dw(device, converted<bf16>(w), "w"), y(device, kM * kN, "y");
  const Array<e4m3> qx(device, kM * kK, "qx"), qw(device, kN * kK, "qw");
  const Array<float> x_scale(device, kM, "x_scale"), w_scale(device, kN, "w_scale");
  gpu::quantize_rows<bf16>({dx.get(), qx.get(), x_scale.get(), kM, kK, kK, kK}, &device);
  gpu::quantize_rows<bf16>({dw.get(), qw.get(), w_scale.get(), kN, kK, kK, kK}, &device);
  gpu::LinearArgs<e4m3> args;
  args.x = qx.get();
  args.x_scale = x_scale.get();
  args.weight.data = qw.get();
  args.weight.n = kN;
  args.weight.k = args.weight.stride = args.x_stride = kK;
  args.weight.column_scale = w_scale.get();
  args.y = y.get();
  args.y_stride = kN;
  args.rows = kM;
  gpu::linear(args, &device);
  const std::vector<float> got = floats(y.values());
  double error = 0, size = 0;
  for (int64_t i = 0; i < kM * kN; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < kK; ++k) {
      sum += double{x[static_cast<size_t>(i / kN * kK + k)]} * w[static_cast<size_t>(i % kN * kK + k)];
    }
    error += (got[static_cast<size_t>(i)] - sum) * (got[static_cast<size_t>(i)] - sum);
    size += sum * sum;
  }
  EXPECT_LT(std::sqrt(error / size), 0.05);
}

#endif

}  // namespace
}  // namespace pf
