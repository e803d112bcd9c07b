// The rows of a packed weight, one thread a channel: its codes lie apart from each other (packed_weight.h), and an
// embedding is too small a part of a step to be worth more.
#include "embed.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

template <class T>
GPU_KERNEL(kThreads)
void embed_packed_kernel(const uint8_t* weight, WeightLayout layout, int64_t vocab, const int32_t* ids, T* y,
                         int64_t y_stride, int64_t cols, float scale) {
  const int64_t column = int64_t{block_y()} * kThreads + thread_x();
  if (column >= cols && !GPU_PLANTED("embed_packed: no guard")) return;
  const int32_t id = ids[block_x()];
  const bool exists = id >= 0 && id < vocab;
  const float value = exists ? unpacked(weight, layout, vocab, id, column) : NAN;
  y[block_x() * y_stride + column] = from_float<T>(value * scale);
}

}  // namespace

template <class T>
void embed_packed(const uint8_t* weight, const WeightLayout& layout, int64_t vocab, const int32_t* ids, T* y,
                  int64_t y_stride, int64_t tokens, int64_t cols, float scale, Stream stream) {
  if (tokens == 0) return;
  const Dim3 grid = {static_cast<unsigned>(tokens), static_cast<unsigned>((cols + kThreads - 1) / kThreads)};
  GPU_LAUNCH(embed_packed_kernel<T>, grid, kThreads, 0, stream, weight, layout, vocab, ids, y, y_stride, cols, scale);
}

template void embed_packed(const uint8_t*, const WeightLayout&, int64_t, const int32_t*, float*, int64_t, int64_t,
                           int64_t, float, Stream);
template void embed_packed(const uint8_t*, const WeightLayout&, int64_t, const int32_t*, f16*, int64_t, int64_t,
                           int64_t, float, Stream);
template void embed_packed(const uint8_t*, const WeightLayout&, int64_t, const int32_t*, bf16*, int64_t, int64_t,
                           int64_t, float, Stream);

}  // namespace pf::gpu
