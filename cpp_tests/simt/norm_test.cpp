// GPU kernels of the normalisation ops against plain loops in double.
#include "ops/norm/gpu/norm.h"

#include "harness.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::f16;
using simt::Device;

struct Shape {
  int64_t rows, groups, width, padding;  // rows are `padding` elements apart from each other
  bool add;
};

template <class T>
std::string run_norm(Device& device, const Shape& s) {
  const int64_t columns = s.groups * s.width, stride = columns + s.padding;
  const auto size = static_cast<size_t>(s.rows * stride);
  const auto a = converted<T>(normal_values(size, 1, 2.0f)), b = converted<T>(normal_values(size, 2));
  const std::vector<float> weight = normal_values(static_cast<size_t>(s.width), 3);
  const Array<T> da(device, a, "a"), db(device, b, "b"), sum(device, std::vector<T>(size), "sum"),
      y(device, std::vector<T>(size), "y");
  const Array<float> dw(device, weight, "weight");
  gpu::rms_norm<T>({da.get(), s.add ? db.get() : nullptr, dw.get(), s.add ? sum.get() : nullptr, y.get(), s.rows,
                    s.groups, s.width, stride, stride, stride, stride, 1e-5f},
                   &device);

  const std::vector<float> fa = floats(a), fb = floats(b);
  std::vector<double> wanted(size), wanted_sum(size);
  for (int64_t g = 0; g < s.rows * s.groups; ++g) {
    const auto begin = static_cast<size_t>(g / s.groups * stride + g % s.groups * s.width);
    const auto width = static_cast<size_t>(s.width);
    double squares = 0;
    std::vector<double> x(width);
    for (size_t i = 0; i < width; ++i) {
      x[i] = fa[begin + i];
      if (s.add) x[i] = wanted_sum[begin + i] = gpu::to_float(gpu::from_float<T>(fa[begin + i] + fb[begin + i]));
      squares += x[i] * x[i];
    }
    for (size_t i = 0; i < width; ++i) {
      wanted[begin + i] = x[i] / std::sqrt(squares / static_cast<double>(width) + 1e-5) * weight[i];
    }
  }
  if (s.add) {
    const std::string wrong = difference(floats(sum.values()), wanted_sum, 0, 0);
    if (!wrong.empty()) return "sum: " + wrong;
  }
  return difference(floats(y.values()), wanted, 1e-6, kRounding<T>);
}

TEST(SimtNorm, RmsNormOfAnyShape) {
  for (const Shape& s : {Shape{5, 1, 64, 0, false}, Shape{3, 3, 72, 8, true}, Shape{2, 2, 17, 1, false},
                         Shape{2, 1, 2056, 0, true}, Shape{3, 1, 2049, 0, false}, Shape{0, 1, 8, 0, false}}) {
    expect_right([&](Device& d) { return run_norm<float>(d, s); });
    expect_right([&](Device& d) { return run_norm<f16>(d, s); });
    expect_right([&](Device& d) { return run_norm<bf16>(d, s); });
  }
}

TEST(SimtNorm, MutantsAreNoticed) {
  expect_mutants_caught([](Device& d) { return run_norm<bf16>(d, {2, 1, 2056, 8, true}); },
                        {.block_syncs = 1, .plants = {"norm: past the row"}});
}

template <class T>
std::string run_add(Device& device, int64_t rows, int64_t cols, int64_t padding) {
  const int64_t stride = cols + padding;
  const auto size = static_cast<size_t>(rows * stride);
  const auto a = converted<T>(normal_values(size, 1)), b = converted<T>(normal_values(size, 2));
  const Array<T> da(device, a, "a"), db(device, b, "b"), y(device, std::vector<T>(size), "y");
  gpu::add<T>(da.get(), stride, db.get(), stride, y.get(), stride, rows, cols, &device);
  const std::vector<float> fa = floats(a), fb = floats(b);
  std::vector<double> wanted(size);
  for (size_t i = 0; i < size; ++i) {
    if (static_cast<int64_t>(i) % stride < cols) wanted[i] = gpu::to_float(gpu::from_float<T>(fa[i] + fb[i]));
  }
  return difference(floats(y.values()), wanted, 0, 0);
}

TEST(SimtNorm, Add) {
  for (const int64_t cols : {8, 21, 1032}) {
    expect_right([&](Device& d) { return run_add<float>(d, 3, cols, 0); });
    expect_right([&](Device& d) { return run_add<f16>(d, 3, cols, 8); });
    expect_right([&](Device& d) { return run_add<bf16>(d, 3, cols, 3); });
  }
  expect_mutants_caught([](Device& d) { return run_add<bf16>(d, 3, 1032, 0); }, {.plants = {"add: no guard"}});
  expect_full_accesses([](Device& d) { return run_add<bf16>(d, 2, 512, 0); });
}

TEST(SimtNorm, RowsAreReadAndWrittenInWholeSectors) {
  // The weight is float: a lane's eight values are two vectors, each half a sector, which the L1 cache joins.
  expect_full_accesses([](Device& d) { return run_norm<bf16>(d, {2, 1, 4096, 0, true}); }, 1, 2.0);
  expect_full_accesses([](Device& d) { return run_norm<float>(d, {4, 2, 128, 0, false}); });
}

}  // namespace
}  // namespace pf
