// One block a row: the largest magnitude first, then the row once more, which the caches still hold.
#include <stdexcept>
#include <string>

#include "../../../gpu/values.h"
#include "quantize.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 256, kStep = 8;
constexpr float kLargest = 448.0f;

template <class T>
GPU_KERNEL(kThreads)
void quantize_rows_kernel(QuantizeArgs<T> args) {
  constexpr int kWarps = kThreads / kWarp;
  GPU_SHARED(float, parts, [kWarps]);
  const T* x = args.x + block_x() * args.x_stride;
  e4m3* y = args.y + block_x() * args.y_stride;
  const int64_t first = int64_t{thread_x()} * kStep;

  float largest = 0.0f;
  for (int64_t i = first; i < args.cols || GPU_PLANTED("quantize: past the row"); i += kThreads * kStep) {
    float v[kStep];
    load_values(x + i, v);
    GPU_UNROLL for (int j = 0; j < kStep; ++j) largest = fmaxf(largest, fabsf(v[j]));
  }
  largest = warp_max(largest);
  if (lane_id() == 0) parts[warp_id()] = largest;
  block_sync();
  for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, parts[w]);

  const float scale = largest / kLargest, inverse = largest > 0.0f ? 1.0f / scale : 0.0f;
  if (thread_x() == 0) args.scale[block_x()] = scale;
  for (int64_t i = first; i < args.cols; i += kThreads * kStep) {
    float v[kStep];
    load_values(x + i, v);
    GPU_UNROLL for (int j = 0; j < kStep; ++j) v[j] *= inverse;
    store_values(y + i, v);
  }
}

}  // namespace

template <class T>
void quantize_rows(const QuantizeArgs<T>& args, Stream stream) {
  if (args.rows == 0) return;
  if (!rows_are_vectors<T>(args.x, args.cols, args.x_stride) || reinterpret_cast<uintptr_t>(args.y) % 16 != 0 ||
      args.y_stride % kStep != 0) {
    throw std::invalid_argument("quantize_rows on a GPU: rows of " + std::to_string(args.cols) + " elements, " +
                                std::to_string(args.x_stride) + " and " + std::to_string(args.y_stride) +
                                " apart, are no whole vectors");
  }
  GPU_LAUNCH((quantize_rows_kernel<T>), Dim3{static_cast<unsigned>(args.rows)}, kThreads, 0, stream, args);
}

template void quantize_rows(const QuantizeArgs<f16>&, Stream);
template void quantize_rows(const QuantizeArgs<bf16>&, Stream);

}  // namespace pf::gpu
