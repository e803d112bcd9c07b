// A row is the work of one block. Eight values go to a thread, so that neighbouring lanes of a warp share a group.
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../../../gpu/block_reduce.h"
#include "../../../gpu/values.h"
#include "norm_quantize.h"
#include "residual.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128, kStep = 8;

// What the bytes of a row are: a branch that all threads take alike.
enum class Code { kInt8, kE4m3 };

struct Bytes {
  uint32_t words[2];
};

GPU_DEVICE uint32_t byte_of(float value, Code code) {
  if (code == Code::kE4m3) return from_float<e4m3>(value).bits;
  return static_cast<uint32_t>(static_cast<int>(rintf(value))) & 0xff;
}

GPU_DEVICE Bytes quantize(const float (&values)[kStep], float scale, Code code) {
  Bytes bytes = {};
  GPU_UNROLL for (int i = 0; i < kStep; ++i) {
    // 0 / 0 of a group of zeros, and what a NaN stands for: the scale says it.
    const float value = scale > 0.0f ? values[i] / scale : 0.0f;
    bytes.words[i / 4] |= byte_of(value, code) << 8 * (i % 4);
  }
  return bytes;
}

// The magnitude's bits: as integers they are in the order of the floats, with infinities and NaNs above all of them.
GPU_DEVICE uint32_t largest_of(const float (&values)[kStep]) {
  uint32_t largest = 0;
  GPU_UNROLL for (int i = 0; i < kStep; ++i) largest = Max{}(largest, detail::as_bits(values[i]) & 0x7fffffffu);
  return largest;
}

GPU_DEVICE float scale_of(uint32_t largest, Code code) {
  return largest >= 0x7f800000u ? NAN : detail::as_float(largest) / (code == Code::kE4m3 ? 448.0f : 127.0f);
}

template <class T>
GPU_KERNEL(kThreads)
void norm_quantize_kernel(NormQuantizeArgs<T, uint8_t> args, Code code) {
  GPU_SHARED(float, squares_parts, [kThreads / kWarp]);
  GPU_SHARED(uint32_t, largest_parts, [kThreads / kWarp]);
  const int64_t row = block_x(), first = int64_t{thread_x()} * kStep;
  const T* x = args.a + row * args.a_stride;
  const T* b = args.b == nullptr ? nullptr : args.b + row * args.b_stride;
  T* sum = args.sum == nullptr ? nullptr : args.sum + row * args.sum_stride;
  float squares = 0.0f;
  for (int64_t i = first; i < args.width; i += kThreads * kStep) {
    float v[kStep];
    load_sum(x, b, sum, i, v);
    GPU_UNROLL for (int j = 0; j < kStep; ++j) squares = fmaf(v[j], v[j], squares);
  }
  if (b != nullptr) x = sum;  // this thread reads back what it wrote itself
  const float norm =
      1.0f / sqrtf(block_reduce(squares, Sum{}, squares_parts) / static_cast<float>(args.width) + args.eps);

  const auto load = [&](int64_t i, float (&v)[kStep]) {
    float w[kStep];
    load_values(x + i, v);
    load_values(args.weight + i, w);
    GPU_UNROLL for (int j = 0; j < kStep; ++j) v[j] = v[j] * norm * w[j];
  };
  uint8_t* to = args.q + row * args.width;
  if (args.group == 0) {
    uint32_t largest = 0;
    for (int64_t i = first; i < args.width; i += kThreads * kStep) {
      float v[kStep];
      load(i, v);
      largest = Max{}(largest, largest_of(v));
    }
    const float scale = scale_of(block_reduce(largest, Max{}, largest_parts), code);
    for (int64_t i = first; i < args.width; i += kThreads * kStep) {
      float v[kStep];
      load(i, v);
      store_vec(to + i, quantize(v, scale, code));
    }
    if (thread_x() == 0) args.scales[row] = scale;
    return;
  }
  // Lanes past the row take part in the shuffles of their warp.
  for (int64_t base = 0; base < args.width; base += kThreads * kStep) {
    const int64_t i = base + first;
    float v[kStep] = {};
    if (i < args.width) load(i, v);
    uint32_t largest = largest_of(v);
    const int lanes = static_cast<int>(args.group) / kStep / (GPU_PLANTED("norm_quantize: half a group") ? 2 : 1);
    for (int mask = 1; mask < lanes; mask *= 2) largest = Max{}(largest, shuffle_xor(largest, mask));
    if (i >= args.width && !GPU_PLANTED("norm_quantize: past the row")) continue;
    const float scale = scale_of(largest, code);
    store_vec(to + i, quantize(v, scale, code));
    if (i % args.group == 0) args.scales[(row * args.width + i) / args.group] = scale;
  }
}

}  // namespace

template <class T, class Q>
void rms_norm_quantize(const NormQuantizeArgs<T, Q>& args, Stream stream) {
  if (args.rows == 0) return;
  const bool group = args.group == 0 || (args.group >= kStep && args.group <= 256 &&
                                         (args.group & (args.group - 1)) == 0 && args.width % args.group == 0);
  bool vectors = args.width % 16 == 0 && rows_are_vectors<T>(args.a, args.width, args.a_stride) &&
                 rows_are_vectors<float>(args.weight, args.width, 0) &&
                 rows_are_vectors<Q>(args.q, args.width, args.width);
  if (args.b != nullptr) {
    vectors = vectors && rows_are_vectors<T>(args.b, args.width, args.b_stride) &&
              rows_are_vectors<T>(args.sum, args.width, args.sum_stride);
  }
  if (!group || !vectors) {
    throw std::invalid_argument("rms_norm_quantize on a GPU: rows of " + std::to_string(args.width) + " in groups of " +
                                std::to_string(args.group) + ": rows must be whole vectors, groups a power of two");
  }
  const NormQuantizeArgs<T, uint8_t> bytes = {
      args.a,        args.b,          args.weight, args.sum,   reinterpret_cast<uint8_t*>(args.q),
      args.scales,   args.rows,       args.width,  args.group, args.a_stride,
      args.b_stride, args.sum_stride, args.eps};
  const Code code = std::is_same_v<Q, e4m3> ? Code::kE4m3 : Code::kInt8;
  GPU_LAUNCH(norm_quantize_kernel<T>, Dim3{static_cast<unsigned>(args.rows)}, kThreads, 0, stream, bytes, code);
}

template void rms_norm_quantize(const NormQuantizeArgs<float, int8_t>&, Stream);
template void rms_norm_quantize(const NormQuantizeArgs<f16, int8_t>&, Stream);
template void rms_norm_quantize(const NormQuantizeArgs<bf16, int8_t>&, Stream);
template void rms_norm_quantize(const NormQuantizeArgs<float, e4m3>&, Stream);
template void rms_norm_quantize(const NormQuantizeArgs<f16, e4m3>&, Stream);
template void rms_norm_quantize(const NormQuantizeArgs<bf16, e4m3>&, Stream);

}  // namespace pf::gpu
