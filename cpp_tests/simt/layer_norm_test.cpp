// Layer norm, and RMS norm that quantizes, against plain loops in double.
#include "ops/norm/gpu/layer_norm.h"

#include "harness.h"
#include "ops/norm/gpu/norm_quantize.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::e4m3;
using gpu::f16;
using simt::Device;

struct Shape {
  int64_t rows, width, padding;  // rows are `padding` elements apart from each other
  bool add, bias;
};

template <class T>
std::string run_layer_norm(Device& device, const Shape& s) {
  const int64_t stride = s.width + s.padding;
  const auto size = static_cast<size_t>(s.rows * stride), width = static_cast<size_t>(s.width);
  auto values = normal_values(size, 1, 2.0f);
  for (float& value : values) value += 30.0f;  // a mean that is far larger than what is around it
  const auto a = converted<T>(values), b = converted<T>(normal_values(size, 2));
  const std::vector<float> weight = normal_values(width, 3), bias = normal_values(width, 4);
  const Array<T> da(device, a, "a"), db(device, b, "b"), sum(device, std::vector<T>(size), "sum"),
      y(device, std::vector<T>(size), "y");
  const Array<float> dw(device, weight, "weight"), dbias(device, bias, "bias");
  gpu::LayerNormArgs<T> args = {da.get(),
                                s.add ? db.get() : nullptr,
                                dw.get(),
                                s.bias ? dbias.get() : nullptr,
                                s.add ? sum.get() : nullptr,
                                y.get(),
                                s.rows,
                                s.width,
                                stride,
                                stride,
                                stride,
                                stride,
                                1e-5f};
  gpu::layer_norm(args, &device);

  const std::vector<float> fa = floats(a), fb = floats(b);
  std::vector<double> wanted(size), wanted_sum(size);
  for (int64_t row = 0; row < s.rows; ++row) {
    const auto begin = static_cast<size_t>(row * stride);
    double mean = 0, squares = 0;
    std::vector<double> x(width);
    for (size_t i = 0; i < width; ++i) {
      x[i] = fa[begin + i];
      if (s.add) x[i] = wanted_sum[begin + i] = gpu::to_float(gpu::from_float<T>(fa[begin + i] + fb[begin + i]));
      mean += x[i] / static_cast<double>(width);
    }
    for (size_t i = 0; i < width; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
    for (size_t i = 0; i < width; ++i) {
      wanted[begin + i] = (x[i] - mean) * scale * weight[i] + (s.bias ? bias[i] : 0.0f);
    }
  }
  if (s.add) {
    const std::string wrong = difference(floats(sum.values()), wanted_sum, 0, 0);
    if (!wrong.empty()) return "sum: " + wrong;
  }
  // The mean is rounded to a float of size 30.
  return difference(floats(y.values()), wanted, 2e-5, kRounding<T>);
}

TEST(SimtLayerNorm, AnyShape) {
  for (const Shape& s : {Shape{5, 64, 0, false, true}, Shape{3, 72, 8, true, true}, Shape{3, 17, 1, true, false},
                         Shape{2, 1160, 0, true, true}, Shape{3, 1031, 0, false, true}, Shape{0, 8, 0, false, false}}) {
    expect_right([&](Device& d) { return run_layer_norm<float>(d, s); });
    expect_right([&](Device& d) { return run_layer_norm<f16>(d, s); });
    expect_right([&](Device& d) { return run_layer_norm<bf16>(d, s); });
  }
  expect_mutants_caught([](Device& d) { return run_layer_norm<bf16>(d, {2, 1160, 8, true, true}); },
                        {.block_syncs = 2, .plants = {"layer_norm: past the row"}});
}

struct Quantized {
  int64_t rows, width, group;
  bool add;
};

template <class T, class Q>
std::string run_quantize(Device& device, const Quantized& s) {
  const auto size = static_cast<size_t>(s.rows * s.width), width = static_cast<size_t>(s.width);
  const size_t group = s.group == 0 ? width : static_cast<size_t>(s.group), groups = width / group;
  auto values = normal_values(size, 1, 2.0f);
  if (s.rows > 0) std::fill_n(values.begin(), width, 0.0f);  // the first row, or its sums, are zeros
  if (s.rows > 2) values[width + 5] = INFINITY;              // the second row is not finite
  auto others = normal_values(size, 2);
  if (s.rows > 0) std::fill_n(others.begin(), width, 0.0f);
  const auto a = converted<T>(values), b = converted<T>(others);
  const std::vector<float> weight = normal_values(width, 3);
  const Array<T> da(device, a, "a"), db(device, b, "b"), sum(device, size, "sum");
  const Array<float> dw(device, weight, "weight"), scales(device, static_cast<size_t>(s.rows) * groups, "scales");
  const Array<Q> q(device, size, "q");
  gpu::NormQuantizeArgs<T, Q> args = {da.get(), s.add ? db.get() : nullptr,
                                      dw.get(), s.add ? sum.get() : nullptr,
                                      q.get(),  scales.get(),
                                      s.rows,   s.width,
                                      s.group,  s.width,
                                      s.width,  s.width,
                                      1e-5f};
  gpu::rms_norm_quantize(args, &device);

  const std::vector<float> fa = floats(a), fb = floats(b), got_scales = scales.values();
  const std::vector<Q> got = q.values();
  const double largest = std::is_same_v<Q, int8_t> ? 127 : 448;
  for (size_t row = 0; row < static_cast<size_t>(s.rows); ++row) {
    double squares = 0;
    std::vector<double> x(width);
    for (size_t i = 0; i < width; ++i) {
      x[i] = fa[row * width + i];
      if (s.add) x[i] = gpu::to_float(gpu::from_float<T>(fa[row * width + i] + fb[row * width + i]));
      squares += x[i] * x[i];
    }
    for (size_t g = 0; g < groups; ++g) {
      double most = 0;
      for (size_t i = g * group; i < (g + 1) * group; ++i) {
        x[i] = x[i] / std::sqrt(squares / static_cast<double>(width) + 1e-5) * weight[i];
        most = std::isnan(x[i]) || std::isnan(most) ? NAN : std::max(most, std::abs(x[i]));
      }
      const double scale = got_scales[row * groups + g];
      const std::string where = "row " + std::to_string(row) + ", group " + std::to_string(g);
      if (std::isnan(most)) {
        if (!std::isnan(scale)) return where + ": a scale of what is not finite";
        continue;
      }
      if (std::abs(scale * largest - most) > 1e-5 * most) return where + ": scale " + std::to_string(scale);
      for (size_t i = g * group; i < (g + 1) * group; ++i) {
        double value, step;
        if constexpr (std::is_same_v<Q, int8_t>) {
          value = got[row * width + i];
          step = 0.5;
        } else {
          value = gpu::to_float(got[row * width + i]);
          step = std::max(0x1p-10, std::abs(value) / 16);
        }
        const double exact = scale == 0 ? 0 : x[i] / scale;
        if (std::abs(value - exact) > step * 1.001) {
          return where + ", " + std::to_string(i) + ": " + std::to_string(value) + " of " + std::to_string(exact);
        }
      }
    }
  }
  return "";
}

TEST(SimtNormQuantize, TokensAndGroups) {
  for (const Quantized& s : {Quantized{4, 64, 0, false}, Quantized{3, 1168, 0, true}, Quantized{3, 1088, 32, true},
                             Quantized{3, 384, 128, false}, Quantized{3, 1056, 8, false}, Quantized{0, 64, 0, false}}) {
    expect_right([&](Device& d) { return run_quantize<float, int8_t>(d, s); });
    expect_right([&](Device& d) { return run_quantize<f16, int8_t>(d, s); });
    expect_right([&](Device& d) { return run_quantize<bf16, int8_t>(d, s); });
    if (s.group != 0) continue;
    expect_right([&](Device& d) { return run_quantize<float, e4m3>(d, s); });
    expect_right([&](Device& d) { return run_quantize<f16, e4m3>(d, s); });
    expect_right([&](Device& d) { return run_quantize<bf16, e4m3>(d, s); });
  }
  Device device;
  EXPECT_THROW((run_quantize<bf16, int8_t>(device, {2, 96, 48, false})), std::invalid_argument);
  EXPECT_THROW((run_quantize<bf16, int8_t>(device, {2, 72, 0, false})), std::invalid_argument);
}

TEST(SimtNormQuantize, MutantsAreNoticedAndAccessesWhole) {
  expect_mutants_caught([](Device& d) { return run_quantize<bf16, e4m3>(d, {4, 1168, 0, true}); }, {.block_syncs = 1});
  expect_mutants_caught([](Device& d) { return run_quantize<bf16, int8_t>(d, {4, 1056, 32, true}); },
                        {.block_syncs = 1, .plants = {"norm_quantize: half a group", "norm_quantize: past the row"}});
  // The weight is float: see norm_test.cpp. Of two vectors a lane, each is half of what its sectors hold.
  expect_full_accesses([](Device& d) { return run_quantize<bf16, int8_t>(d, {2, 1024, 128, true}); }, 1, 2.0);
}

}  // namespace
}  // namespace pf
