// GPU kernels that take one row at a time: silu_mul, gather_rows, embed.
#include "harness.h"
#include "ops/activation/gpu/activation.h"
#include "ops/linear/gpu/embed.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::f16;
using simt::Device;

template <class T>
std::string run_silu_mul(Device& device, int64_t rows, int64_t cols, int64_t padding) {
  const int64_t stride = 2 * cols + padding;
  auto values = normal_values(static_cast<size_t>(rows * stride), 1, 20.0f);
  values[0] = -INFINITY;  // silu(-inf) is -0, also by the limit of -88
  values[static_cast<size_t>(cols)] = 1.0f;
  const auto x = converted<T>(values);
  const Array<T> dx(device, x, "x"), y(device, static_cast<size_t>(rows * cols), "y");
  gpu::silu_mul<T>(dx.get(), stride, y.get(), cols, rows, cols, &device);
  const std::vector<float> fx = floats(x);
  std::vector<double> wanted;
  for (int64_t i = 0; i < rows * cols; ++i) {
    const auto at = static_cast<size_t>(i / cols * stride + i % cols);
    const double gate = fx[at], up = fx[at + static_cast<size_t>(cols)];
    wanted.push_back(gate == -INFINITY ? 0.0 : gate / (1 + std::exp(-gate)) * up);
  }
  std::vector<float> result = floats(y.values());
  if (result[0] == -INFINITY) result[0] = 0;  // -inf / e^88: as on the CPU
  return difference(result, wanted, 1e-6, kRounding<T>);
}

TEST(SimtRows, SiluMul) {
  for (const int64_t cols : {8, 21, 1040}) {
    expect_right([&](Device& d) { return run_silu_mul<float>(d, 3, cols, 0); });
    expect_right([&](Device& d) { return run_silu_mul<f16>(d, 3, cols, 8); });
    expect_right([&](Device& d) { return run_silu_mul<bf16>(d, 3, cols, 3); });
  }
  expect_mutants_caught([](Device& d) { return run_silu_mul<bf16>(d, 3, 1040, 0); },
                        {.plants = {"activation: no guard"}});
  expect_full_accesses([](Device& d) { return run_silu_mul<bf16>(d, 2, 512, 0); });
}

template <class T>
std::string run_gather(Device& device, int64_t cols) {
  const auto x = converted<T>(normal_values(static_cast<size_t>(5 * cols), 2));
  const std::vector<int32_t> rows = {4, 0, 4, 2};
  const Array<T> dx(device, x, "x"), y(device, static_cast<size_t>(4 * cols), "y");
  const Array<int32_t> dr(device, rows, "rows");
  gpu::gather_rows<T>(dx.get(), cols, dr.get(), y.get(), cols, 4, cols, &device);
  const std::vector<float> fx = floats(x);
  std::vector<double> wanted;
  for (const int32_t row : rows) {
    for (int64_t i = 0; i < cols; ++i) wanted.push_back(fx[static_cast<size_t>(row * cols + i)]);
  }
  return difference(floats(y.values()), wanted, 0, 0);
}

TEST(SimtRows, GatherRows) {
  for (const int64_t cols : {16, 19}) {
    expect_right([&](Device& d) { return run_gather<float>(d, cols); });
    expect_right([&](Device& d) { return run_gather<bf16>(d, cols); });
  }
  expect_mutants_caught([](Device& d) { return run_gather<f16>(d, 24); }, {.plants = {"gather_rows: no guard"}});
}

template <class T>
std::string run_embed(Device& device, int64_t cols) {
  const auto weight = converted<T>(normal_values(static_cast<size_t>(7 * cols), 3));
  const std::vector<int32_t> ids = {6, 0, 3, 7, -1, 3};
  const Array<T> dw(device, weight, "weight"), y(device, static_cast<size_t>(6 * cols), "y");
  const Array<int32_t> di(device, ids, "ids");
  gpu::embed<T>(dw.get(), 7, di.get(), y.get(), cols, 6, cols, 0.5f, &device);
  const std::vector<float> values = floats(y.values()), fw = floats(weight);
  for (int64_t i = 0; i < 6 * cols; ++i) {
    const int32_t id = ids[static_cast<size_t>(i / cols)];
    const float value = values[static_cast<size_t>(i)];
    if (id < 0 || id >= 7) {
      if (!std::isnan(value)) return "a row of no token";
    } else if (value != gpu::to_float(gpu::from_float<T>(fw[static_cast<size_t>(id * cols + i % cols)] * 0.5f))) {
      return "wrong value";
    }
  }
  return "";
}

TEST(SimtRows, Embed) {
  for (const int64_t cols : {1032, 21}) {
    expect_right([&](Device& d) { return run_embed<float>(d, cols); });
    expect_right([&](Device& d) { return run_embed<f16>(d, cols); });
    expect_right([&](Device& d) { return run_embed<bf16>(d, cols); });
  }
  expect_mutants_caught([](Device& d) { return run_embed<bf16>(d, 64); },
                        {.plants = {"embed: any id", "embed: no guard"}});
  expect_full_accesses([](Device& d) { return run_embed<bf16>(d, 1024); });
}

}  // namespace
}  // namespace pf
