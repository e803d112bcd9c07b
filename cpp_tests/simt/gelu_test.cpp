// GPU kernels of GELU and of M-RoPE's angles against plain loops in double.
#include "harness.h"
#include "ops/activation/gpu/activation.h"
#include "ops/attention/gpu/mrope.h"

namespace pf {
namespace {

using gpu::bf16;
using gpu::f16;
using gpu::Gelu;
using simt::Device;

template <class T>
std::string run_gelu(Device& device, Gelu kind, bool gated, int64_t cols, int64_t padding) {
  constexpr int64_t kRows = 3;
  const int64_t stride = (gated ? 2 : 1) * cols + padding;
  const auto x = converted<T>(normal_values(static_cast<size_t>(kRows * stride), 1, 3.0f));
  const Array<T> dx(device, x, "x"), y(device, static_cast<size_t>(kRows * cols), "y");
  gpu::gelu<T>(dx.get(), stride, y.get(), cols, kRows, cols, kind, gated, &device);
  const std::vector<float> fx = floats(x);
  std::vector<double> wanted;
  for (int64_t i = 0; i < kRows * cols; ++i) {
    const auto at = static_cast<size_t>(i / cols * stride + i % cols);
    const double v = fx[at], inner = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
    const double value = kind == Gelu::kErf ? v / 2 * std::erfc(-v / std::sqrt(2.0)) : v / (1 + std::exp(-2 * inner));
    wanted.push_back(gated ? value * fx[at + static_cast<size_t>(cols)] : value);
  }
  // Far below zero results are tiny and their relative error is that of an exponent.
  return difference(floats(y.values()), wanted, 1e-6, kRounding<T>);
}

TEST(SimtGelu, BothKindsAloneAndGated) {
  for (const Gelu kind : {Gelu::kErf, Gelu::kTanh}) {
    for (const bool gated : {false, true}) {
      expect_right([&](Device& d) { return run_gelu<float>(d, kind, gated, 1040, 0); });
      expect_right([&](Device& d) { return run_gelu<f16>(d, kind, gated, 21, 8); });
      expect_right([&](Device& d) { return run_gelu<bf16>(d, kind, gated, 1040, 3); });
    }
  }
  expect_mutants_caught([](Device& d) { return run_gelu<bf16>(d, Gelu::kTanh, true, 1040, 0); },
                        {.plants = {"activation: no guard"}});
  expect_full_accesses([](Device& d) { return run_gelu<bf16>(d, Gelu::kErf, true, 512, 0); });
}

struct Sections {
  int half, sections[3];
  bool interleaved;
  std::string axes;  // of the pairs
};

std::string run_mrope(Device& device, const Sections& s) {
  const std::vector<int32_t> positions = {0, 7, 100'000, 3, 8, 2, 31, 9, 50'000};  // three tokens
  const auto half = static_cast<size_t>(s.half), stride = 2 * half + 4;
  std::vector<float> inv_freq;
  for (size_t i = 0; i < half; ++i) {
    inv_freq.push_back(std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(half)));
  }
  const Array<int32_t> dp(device, positions, "positions");
  const Array<float> df(device, inv_freq, "inv_freq"), cs(device, std::vector<float>(3 * stride), "cs");
  gpu::mrope_angles({dp.get(),
                     df.get(),
                     cs.get(),
                     static_cast<int64_t>(stride),
                     3,
                     s.half,
                     {s.sections[0], s.sections[1], s.sections[2]},
                     s.interleaved,
                     1.5},
                    &device);
  std::vector<double> wanted;
  for (size_t token = 0; token < 3; ++token) {
    for (const auto function : {static_cast<double (*)(double)>(std::cos), static_cast<double (*)(double)>(std::sin)}) {
      for (size_t i = 0; i < half; ++i) {
        const size_t axis = std::string("thw").find(s.axes[i]);
        wanted.push_back(function(static_cast<double>(positions[axis * 3 + token]) * inv_freq[i]) * 1.5);
      }
    }
    wanted.insert(wanted.end(), 4, 0.0);
  }
  return difference(cs.values(), wanted, 1e-12, 1e-7);
}

TEST(SimtMrope, SectionsInARowAndInTurns) {
  const Sections row = {8, {2, 3, 3}, false, "tthhhwww"}, turns = {10, {4, 2, 3}, true, "thwthwttwt"};
  Sections wide = {300, {100, 120, 80}, false, std::string(100, 't') + std::string(120, 'h') + std::string(80, 'w')};
  for (const Sections& s : {row, turns, wide}) {
    expect_right([&](Device& d) { return run_mrope(d, s); });
  }
  expect_mutants_caught([&](Device& d) { return run_mrope(d, wide); },
                        {.plants = {"rope_angles: a pair too far", "rope_angles: past the row"}});
}

}  // namespace
}  // namespace pf
