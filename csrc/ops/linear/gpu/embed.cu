// Rows of a plain weight by vectors where they allow it. Those of a packed weight have one thread a channel: its codes
// lie apart from each other (packed_weight.h), and an embedding is too small a part of a step to be worth more.
#include "../../../gpu/values.h"
#include "embed.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

template <class T>
struct EmbedArgs {
  const void* weight;
  WeightLayout layout;
  int64_t vocab;
  const int32_t* ids;
  T* y;
  int64_t y_stride, cols;
  float scale;
};

template <class T>
GPU_KERNEL(kThreads)
void embed_kernel(EmbedArgs<T> args, bool vectors) {
  with_step<T>(vectors, [&]<int kStep>() {
    const int64_t column = (int64_t{block_y()} * kThreads + thread_x()) * kStep;
    if (column >= args.cols && !GPU_PLANTED("embed: no guard")) return;
    const int64_t id = args.ids[block_x()];
    const bool known = (id >= 0 && id < args.vocab) || GPU_PLANTED("embed: any id");
    float v[kStep];
    if (!known) {
      GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] = NAN;
    } else if (kStep == 1 && args.layout.format != WeightFormat::kPlain) {
      v[0] = unpacked(static_cast<const uint8_t*>(args.weight), args.layout, args.vocab, id, column);
    } else {
      load_values(static_cast<const T*>(args.weight) + id * args.cols + column, v);
    }
    GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] *= args.scale;
    store_values(args.y + block_x() * args.y_stride + column, v);
  });
}

template <class T>
void launch(const EmbedArgs<T>& args, int64_t tokens, bool vectors, Stream stream) {
  if (tokens == 0) return;
  const int64_t threads = vectors ? args.cols / kPerVec<T> : args.cols;
  const Dim3 grid = {static_cast<unsigned>(tokens), static_cast<unsigned>((threads + kThreads - 1) / kThreads)};
  GPU_LAUNCH(embed_kernel<T>, grid, kThreads, 0, stream, args, vectors);
}

}  // namespace

template <class T>
void embed(const T* weight, int64_t vocab, const int32_t* ids, T* y, int64_t y_stride, int64_t tokens, int64_t cols,
           float scale, Stream stream) {
  const bool vectors = rows_are_vectors<T>(weight, cols, cols) && rows_are_vectors<T>(y, cols, y_stride);
  launch<T>({weight, {}, vocab, ids, y, y_stride, cols, scale}, tokens, vectors, stream);
}

template <class T>
void embed_packed(const uint8_t* weight, const WeightLayout& layout, int64_t vocab, const int32_t* ids, T* y,
                  int64_t y_stride, int64_t tokens, int64_t cols, float scale, Stream stream) {
  launch<T>({weight, layout, vocab, ids, y, y_stride, cols, scale}, tokens, false, stream);
}

#define PF_INSTANTIATE(T)                                                                                        \
  template void embed(const T*, int64_t, const int32_t*, T*, int64_t, int64_t, int64_t, float, Stream);          \
  template void embed_packed(const uint8_t*, const WeightLayout&, int64_t, const int32_t*, T*, int64_t, int64_t, \
                             int64_t, float, Stream);
PF_INSTANTIATE(float)
PF_INSTANTIATE(f16)
PF_INSTANTIATE(bf16)
#undef PF_INSTANTIATE

}  // namespace pf::gpu
