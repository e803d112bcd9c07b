// Matrices for tests of the GPU's GEMM: weights of every format with the numbers that they stand for, and one run of
// `linear` against its formula in double.
#pragma once
#include "harness.h"
#include "ops/linear/gpu/linear.h"

namespace pf {

using gpu::WeightFormat;
using gpu::WeightLayout;

// Lines that meet banks of shared memory more than once; mma.sync's none. Of MFMA the loads of operands, of WMMA the
// stores of sums, twice each; and of packed weights the loads of codes (MFMA's two, WMMA's one), four times.
constexpr int kConflictsOfPlain = GPU_AMD_TILES ? 1 : 0;
constexpr int kConflictsOfPacked = GPU_AMD_TILES ? (gpu::kWarp == 64 ? 3 : 2) : 0;

// Numbers of T for a test: about 1, or of the whole range of int8.
template <class T>
std::vector<T> drawn_values(size_t n, unsigned seed) {
  if constexpr (std::is_same_v<T, int8_t>) {
    std::vector<int8_t> values;
    for (const float v : normal_values(n, seed, 60.0f)) {
      values.push_back(static_cast<int8_t>(std::lround(std::clamp(v, -128.0f, 127.0f))));
    }
    return values;
  } else {
    return converted<T>(normal_values(n, seed));
  }
}
template <class T>
double number_of(T value) {
  if constexpr (std::is_same_v<T, int8_t>)
    return value;
  else
    return gpu::to_float(value);
}

struct Drawn {
  std::vector<uint8_t> data;    // as the kernel reads them, experts back to back
  std::vector<double> numbers;  // [experts][n][k]: what they stand for beside activations of T
};

inline uint8_t drawn_code(WeightFormat format, std::mt19937& generator) {
  const auto bits = static_cast<uint8_t>(generator());
  if (format == WeightFormat::kInt4) return bits & 15;
  if (format == WeightFormat::kE4m3 && (bits & 0x7f) == 0x7f) return 0;  // no NaN
  return bits;
}

// The number of a code, from the definition of its format.
inline double code_number(WeightFormat format, uint8_t code) {
  if (format == WeightFormat::kInt4) return code;
  if (format == WeightFormat::kInt8) return static_cast<int8_t>(code);
  return gpu::to_float(gpu::e4m3{code});
}

// Numbers of a packed weight are rounded to T, as the kernel does before it multiplies. `together`: experts are packed
// as one matrix.
template <class T>
Drawn drawn_weight(const WeightLayout& layout, int experts, int64_t n, int64_t k, unsigned seed,
                   bool together = false) {
  Drawn drawn;
  std::mt19937 generator(seed);
  if (layout.format == WeightFormat::kPlain) {
    const auto values = drawn_values<T>(static_cast<size_t>(experts * n * k), seed);
    drawn.data.resize(values.size() * sizeof(T));
    memcpy(drawn.data.data(), values.data(), drawn.data.size());
    for (const T v : values) drawn.numbers.push_back(number_of(v));
    return drawn;
  }
  using Rounded = std::conditional_t<sizeof(T) == 1, gpu::bf16, T>;
  const double unit = layout.format == WeightFormat::kInt4 ? 0.1 : 0.01,
               middle = layout.format == WeightFormat::kInt4 ? 8 : 0;
  std::uniform_real_distribution<float> scales(0.5f, 1.5f);
  const int matrices = together ? 1 : experts;
  for (int e = 0; e < matrices; ++e) {
    gpu::QuantizedMatrix m;
    m.n = n * experts / matrices;
    m.k = k;
    for (int64_t row = 0; row < m.n; ++row) {
      float d = 1.0f, offset = 0.0f;
      for (int64_t i = 0; i < k; ++i) {
        if (layout.group != 0 && i % layout.group == 0) {
          m.scales.push_back(gpu::from_float<gpu::f16>(static_cast<float>(unit) * scales(generator)));
          d = gpu::to_float(m.scales.back());
          if (layout.offset != gpu::Offset::kNone) {
            const float drawn_offset =
                layout.offset == gpu::Offset::kZero ? static_cast<float>(generator() % 17) : -scales(generator);
            m.offsets.push_back(gpu::from_float<gpu::f16>(drawn_offset));
            offset = gpu::to_float(m.offsets.back());
          }
        }
        m.codes.push_back(drawn_code(layout.format, generator));
        const double q = code_number(layout.format, m.codes.back());
        const double number = layout.offset == gpu::Offset::kNone   ? d * (q - middle)
                              : layout.offset == gpu::Offset::kZero ? double{d} * (q - offset)
                                                                    : double{d} * q + offset;
        drawn.numbers.push_back(gpu::to_float(gpu::from_float<Rounded>(static_cast<float>(number))));
      }
    }
    const std::vector<uint8_t> packed = gpu::pack_weight(m, layout);
    drawn.data.insert(drawn.data.end(), packed.begin(), packed.end());
  }
  return drawn;
}

inline double silu(double x) { return x / (1.0 + std::exp(-x)); }

// How much a sum of k products may be off, in fp32 and for numbers about 1.
constexpr double kSumError = 2e-4;

struct LinearCase {
  int64_t m, n, k;
  WeightLayout layout = {};
  bool bias = false, residual = false, silu_mul = false, float_output = false, scales = false;
  int64_t padding = 0;  // elements between the end of a row and the next one's start, in x and y
};

template <class T>
std::string run_linear(simt::Device& device, const LinearCase& c, std::vector<float>* result = nullptr) {
  using Out = gpu::Output<T>;
  const int64_t x_stride = c.k + c.padding, columns = c.silu_mul ? c.n / 2 : c.n, y_stride = columns + c.padding;
  const auto x = drawn_values<T>(static_cast<size_t>(c.m * x_stride), 1);
  const Drawn w = drawn_weight<T>(c.layout, 1, c.n, c.k, 2);
  const auto residual = converted<Out>(normal_values(static_cast<size_t>(c.m * y_stride), 3));
  // Codes without scales of their own are large.
  const float unit = std::is_same_v<T, int8_t>                                        ? 0.0003f
                     : c.layout.format != WeightFormat::kPlain && c.layout.group == 0 ? 0.01f
                                                                                      : 1.0f;
  const std::vector<float> bias = normal_values(static_cast<size_t>(c.n), 4),
                           column_scale = normal_values(static_cast<size_t>(c.n), 5, unit),
                           x_scale = normal_values(static_cast<size_t>(c.m), 6);
  const Array<T> dx(device, x, "x");
  const Array<uint8_t> dw(device, w.data, "w");
  const Array<Out> dresidual(device, residual, "residual"), y(device, residual, "y");
  const Array<float> y_float(device, std::vector<float>(residual.size(), 0.0f), "y_float"), dbias(device, bias, "bias"),
      dcolumn(device, column_scale, "column_scale"), drow(device, x_scale, "x_scale");
  gpu::LinearArgs<T> args;
  args.x = dx.get();
  args.weight.data = dw.get();
  args.weight.n = c.n;
  args.weight.k = args.weight.stride = c.k;
  args.weight.layout = c.layout;
  args.y = y.get();
  args.rows = c.m;
  args.x_stride = x_stride;
  args.y_stride = args.residual_stride = y_stride;
  args.silu_mul = c.silu_mul;
  if (c.float_output) args.y_float = y_float.get();
  if (c.bias) args.bias = dbias.get();
  if (c.residual) args.residual = dresidual.get();
  if (c.scales) {
    args.weight.column_scale = dcolumn.get();
    args.x_scale = drow.get();
  }
  gpu::linear(args, &device);

  const std::vector<float> all = c.float_output ? y_float.values() : floats(y.values());
  std::vector<float> values;
  std::vector<double> wanted;
  for (int64_t row = 0; row < c.m; ++row) {
    std::vector<double> sums;
    for (int64_t n = 0; n < c.n; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        sum += number_of(x[static_cast<size_t>(row * x_stride + k)]) * w.numbers[static_cast<size_t>(n * c.k + k)];
      }
      if (c.scales) sum *= double{x_scale[static_cast<size_t>(row)]} * column_scale[static_cast<size_t>(n)];
      sums.push_back(sum + (c.bias ? bias[static_cast<size_t>(n)] : 0.0f));
    }
    for (int64_t n = 0; n < y_stride; ++n) {
      const auto i = static_cast<size_t>(row * y_stride + n);
      values.push_back(all[i]);
      if (n >= columns) {  // between rows nothing is written
        wanted.push_back(c.float_output ? 0.0f : gpu::to_float(residual[i]));
        continue;
      }
      const auto at = static_cast<size_t>(n);
      const double value = c.silu_mul ? silu(sums[2 * at]) * sums[2 * at + 1] : sums[at];
      wanted.push_back(value + (c.residual ? gpu::to_float(residual[i]) : 0.0f));
    }
  }
  if (result != nullptr) *result = values;
  return difference(values, wanted, kSumError * (c.silu_mul ? 30 : 1), c.float_output ? 1e-5 : kRounding<Out>);
}

}  // namespace pf
