#include "../../../gpu/values.h"
#include "embed.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

template <class T, int kStep>
GPU_KERNEL(kThreads)
void embed_kernel(const T* weight, int64_t vocab, const int32_t* ids, T* y, int64_t y_stride, int64_t cols,
                  float scale) {
  const int64_t column = (int64_t{block_y()} * kThreads + thread_x()) * kStep;
  if (column >= cols) return;
  const int64_t id = ids[block_x()];
  const bool known = (id >= 0 && id < vocab) || GPU_PLANTED("embed: any id");
  float v[kStep];
  if (known) {
    load_values(weight + id * cols + column, v);
  } else {
    GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] = NAN;
  }
  GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] *= scale;
  store_values(y + block_x() * y_stride + column, v);
}

}  // namespace

template <class T>
void embed(const T* weight, int64_t vocab, const int32_t* ids, T* y, int64_t y_stride, int64_t tokens, int64_t cols,
           float scale, Stream stream) {
  if (tokens == 0) return;
  const bool vectors = rows_are_vectors<T>(weight, cols, cols) && rows_are_vectors<T>(y, cols, y_stride);
  const int64_t threads = vectors ? cols / kPerVec<T> : cols;
  const Dim3 grid = {static_cast<unsigned>(tokens), static_cast<unsigned>((threads + kThreads - 1) / kThreads)};
  if (vectors) {
    GPU_LAUNCH((embed_kernel<T, kPerVec<T>>), grid, kThreads, 0, stream, weight, vocab, ids, y, y_stride, cols, scale);
  } else {
    GPU_LAUNCH((embed_kernel<T, 1>), grid, kThreads, 0, stream, weight, vocab, ids, y, y_stride, cols, scale);
  }
}

template void embed(const float*, int64_t, const int32_t*, float*, int64_t, int64_t, int64_t, float, Stream);
template void embed(const f16*, int64_t, const int32_t*, f16*, int64_t, int64_t, int64_t, float, Stream);
template void embed(const bf16*, int64_t, const int32_t*, bf16*, int64_t, int64_t, int64_t, float, Stream);

}  // namespace pf::gpu
