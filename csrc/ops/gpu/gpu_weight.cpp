#include "gpu_weight.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "../../runtime/errors.h"
#include "../linear/gpu/embed.h"

namespace pf::gpu {
namespace {

template <class From, class To>
void convert(const PfWeightPart& part, To* out) {
  const From* values = static_cast<const From*>(part.data);
  for (int64_t i = 0; i < part.rows * part.cols; ++i) out[i] = from_float<To>(to_float(values[i]));
}

template <class To>
void convert_part(const PfWeightPart& part, To* out) {
  switch (part.format) {
    case PF_FMT_F32:
      return convert<float>(part, out);
    case PF_FMT_F16:
      return convert<f16>(part, out);
    case PF_FMT_BF16:
      return convert<bf16>(part, out);
    default:
      refuse(
          "a GPU reads weights in f32, f16, bf16, or all parts in q8_0, q4_0 or q4_1; "
          "dtype=\"float32\" dequantizes other ones");
  }
}

template <class To>
std::vector<char> convert_parts(const PfWeightPart* parts, int32_t num_parts, int64_t rows, int64_t cols) {
  std::vector<char> values(static_cast<size_t>(rows * cols) * sizeof(To));
  To* next = reinterpret_cast<To*>(values.data());
  for (int32_t i = 0; i < num_parts; next += parts[i].rows * parts[i].cols, ++i) convert_part(parts[i], next);
  return values;
}

// Calls fn.template operator()<T>() with an activation's type.
template <class Fn>
auto with_type(int32_t dtype, Fn&& fn) {
  if (dtype == PF_F16) return fn.template operator()<f16>();
  if (dtype == PF_BF16) return fn.template operator()<bf16>();
  return fn.template operator()<float>();
}

// How kernels read weights of a file's format, and how a part becomes one; nothing where they can't.
struct Quantized {
  WeightLayout layout;
  QuantizedMatrix (*read)(const uint8_t* blocks, int64_t n, int64_t k);
};
std::optional<Quantized> quantized(int32_t format) {
  switch (format) {
    case PF_FMT_Q8_0:
      return Quantized{{WeightFormat::kInt8, 32, Offset::kNone}, from_q8_0};
    case PF_FMT_Q4_0:
      return Quantized{{WeightFormat::kInt4, 32, Offset::kNone}, from_q4_0};
    case PF_FMT_Q4_1:
      return Quantized{{WeightFormat::kInt4, 32, Offset::kMinimum}, from_q4_1};
    default:
      return std::nullopt;
  }
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

std::vector<uint8_t> pack_parts(const Quantized& format, const PfWeightPart* parts, int32_t num_parts) {
  QuantizedMatrix whole;
  whole.k = parts[0].cols;
  for (int32_t i = 0; i < num_parts; ++i) {
    const QuantizedMatrix part = format.read(static_cast<const uint8_t*>(parts[i].data), parts[i].rows, whole.k);
    whole.n += part.n;
    append(whole.codes, part.codes);
    append(whole.scales, part.scales);
    append(whole.offsets, part.offsets);
  }
  return pack_weight(whole, format.layout);
}

void upload(Runtime& runtime, Stream stream, MemoryPool& memory, const void* from, GpuWeight& weight) {
  weight.data = static_cast<char*>(memory.allocate(weight.bytes, "weight"));
  runtime.copy_in(weight.data, from, weight.bytes, stream);
  runtime.synchronize(stream);
}

}  // namespace

GpuWeight* pack_gpu_weight(Runtime& runtime, Stream stream, MemoryPool& memory, int32_t activations,
                           const PfWeightPart* parts, int32_t num_parts) {
  auto weight = std::make_unique<GpuWeight>();
  weight->dtype = activations;
  weight->cols = parts[0].cols;
  for (int32_t i = 0; i < num_parts; ++i) weight->rows += parts[i].rows;
  const bool alike = std::all_of(parts, parts + num_parts, [&](const auto& p) { return p.format == parts[0].format; });
  if (const auto format = quantized(parts[0].format); format && alike) {
    weight->layout = format->layout;
    const std::vector<uint8_t> packed = pack_parts(*format, parts, num_parts);
    weight->bytes = packed.size();
    upload(runtime, stream, memory, packed.data(), *weight);
    return weight.release();
  }
  const std::vector<char> values =
      with_type(activations, [&]<class T>() { return convert_parts<T>(parts, num_parts, weight->rows, weight->cols); });
  weight->bytes = values.size();
  upload(runtime, stream, memory, values.data(), *weight);
  return weight.release();
}

void fetch_gpu_rows(Runtime& runtime, Stream stream, const GpuWeight& weight, int64_t row, int64_t rows, float* out) {
  if (weight.is_plain()) {
    with_type(weight.dtype, [&]<class T>() {
      std::vector<T> values(static_cast<size_t>(rows * weight.cols));
      runtime.copy_out(values.data(), reinterpret_cast<const T*>(weight.data) + row * weight.cols,
                       values.size() * sizeof(T), stream);
      runtime.synchronize(stream);
      std::transform(values.begin(), values.end(), out, [](T value) { return to_float(value); });
    });
    return;
  }
  std::vector<uint8_t> packed(weight.bytes);  // the rows of a panel are mixed
  runtime.copy_out(packed.data(), weight.data, weight.bytes, stream);
  runtime.synchronize(stream);
  for (int64_t r = row; r < row + rows; ++r) {
    for (int64_t k = 0; k < weight.cols; ++k) *out++ = unpacked(packed.data(), weight.layout, weight.rows, r, k);
  }
}

}  // namespace pf::gpu
