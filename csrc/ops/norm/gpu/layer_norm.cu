// A row is the work of one block, which goes through it three times: mean, variance, result. What a thread reads again
// it has read, or written, itself.
#include "../../../gpu/block_reduce.h"
#include "../../../gpu/values.h"
#include "layer_norm.h"
#include "residual.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

template <class T>
GPU_KERNEL(kThreads)
void layer_norm_kernel(LayerNormArgs<T> args, bool vectors) {
  with_step<T>(vectors, [&]<int kStep>() {
    const int64_t row = block_x(), first = int64_t{thread_x()} * kStep;
    const T* x = args.a + row * args.a_stride;
    const T* b = args.b == nullptr ? nullptr : args.b + row * args.b_stride;
    T* sum = args.sum == nullptr ? nullptr : args.sum + row * args.sum_stride;
    float total = 0.0f;
    for (int64_t i = first; i < args.width || GPU_PLANTED("layer_norm: past the row"); i += kThreads * kStep) {
      float v[kStep];
      load_sum(x, b, sum, i, v);
      GPU_UNROLL for (int j = 0; j < kStep; ++j) total += v[j];
    }
    if (b != nullptr) x = sum;
    const float width = static_cast<float>(args.width);
    const float mean = block_reduce<kThreads>(total, Sum{}) / width;

    float squares = 0.0f;
    for (int64_t i = first; i < args.width; i += kThreads * kStep) {
      float v[kStep];
      load_values(x + i, v);
      GPU_UNROLL for (int j = 0; j < kStep; ++j) squares = fmaf(v[j] - mean, v[j] - mean, squares);
    }
    const float scale = 1.0f / sqrtf(block_reduce<kThreads>(squares, Sum{}) / width + args.eps);

    for (int64_t i = first; i < args.width; i += kThreads * kStep) {
      float v[kStep], w[kStep], shift[kStep] = {};
      load_values(x + i, v);
      load_values(args.weight + i, w);
      if (args.bias != nullptr) load_values(args.bias + i, shift);
      GPU_UNROLL for (int j = 0; j < kStep; ++j) v[j] = (v[j] - mean) * scale * w[j] + shift[j];
      store_values(args.y + row * args.y_stride + i, v);
    }
  });
}

}  // namespace

template <class T>
void layer_norm(const LayerNormArgs<T>& args, Stream stream) {
  if (args.rows == 0) return;
  bool vectors = rows_are_vectors<T>(args.a, args.width, args.a_stride) &&
                 rows_are_vectors<T>(args.y, args.width, args.y_stride) &&
                 rows_are_vectors<float>(args.weight, args.width, 0) &&
                 rows_are_vectors<float>(args.bias, args.width, 0);
  if (args.b != nullptr) {
    vectors = vectors && rows_are_vectors<T>(args.b, args.width, args.b_stride) &&
              rows_are_vectors<T>(args.sum, args.width, args.sum_stride);
  }
  GPU_LAUNCH(layer_norm_kernel<T>, Dim3{static_cast<unsigned>(args.rows)}, kThreads, 0, stream, args, vectors);
}

template void layer_norm(const LayerNormArgs<float>&, Stream);
template void layer_norm(const LayerNormArgs<f16>&, Stream);
template void layer_norm(const LayerNormArgs<bf16>&, Stream);

}  // namespace pf::gpu
