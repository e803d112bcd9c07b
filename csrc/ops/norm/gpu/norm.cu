// A group is the work of one warp, or of a block if it is wide. Its squares are summed by each thread in ascending
// order, then by a tree over the warp, then over the warps in ascending order: the same for every row and batch.
#include "../../../gpu/values.h"
#include "norm.h"
#include "residual.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 256;
// From here on a warp alone would go through its row more than eight times.
constexpr int64_t kWideBytes = 4096;

template <class T>
GPU_KERNEL(kThreads)
void rms_norm_kernel(RmsNormArgs<T> args, bool wide, bool vectors) {
  constexpr int kWarps = kThreads / kWarp;
  GPU_SHARED(float, parts, [kWarps]);
  const int64_t index = wide ? block_x() : int64_t{block_x()} * kWarps + warp_id();
  if (index >= args.rows * args.groups) return;
  const int64_t row = index / args.groups, column = index % args.groups * args.width;
  const T* a = args.a + row * args.a_stride + column;
  const T* b = args.b == nullptr ? nullptr : args.b + row * args.b_stride + column;
  T* sum = args.sum == nullptr ? nullptr : args.sum + row * args.sum_stride + column;
  T* y = args.y + row * args.y_stride + column;
  const int lanes = wide ? kThreads : kWarp, lane = wide ? static_cast<int>(thread_x()) : lane_id();
  with_step<T>(vectors, [&]<int kStep>() {
    const int64_t first = int64_t{lane} * kStep, step = int64_t{lanes} * kStep;
    float squares = 0.0f;
    for (int64_t i = first; i < args.width || GPU_PLANTED("norm: past the row"); i += step) {
      float v[kStep];
      load_sum(a, b, sum, i, v);
      GPU_UNROLL for (int j = 0; j < kStep; ++j) squares = fmaf(v[j], v[j], squares);
    }
    squares = warp_sum(squares);
    if (wide) {
      if (lane_id() == 0) parts[warp_id()] = squares;
      block_sync();
      squares = 0.0f;
      for (int w = 0; w < kWarps; ++w) squares += parts[w];
    }

    const float scale = 1.0f / sqrtf(squares / static_cast<float>(args.width) + args.eps);
    const T* x = b != nullptr ? sum : a;  // this thread reads back what it wrote itself
    for (int64_t i = first; i < args.width; i += step) {
      float v[kStep], w[kStep];
      load_values(x + i, v);
      load_values(args.weight + i, w);
      GPU_UNROLL for (int j = 0; j < kStep; ++j) v[j] = v[j] * scale * w[j];
      store_values(y + i, v);
    }
  });
}

// One thread a step of a row.
template <class T>
GPU_KERNEL(kThreads)
void add_kernel(const T* a, int64_t a_stride, const T* b, int64_t b_stride, T* y, int64_t y_stride, int64_t cols,
                bool vectors) {
  with_step<T>(vectors, [&]<int kStep>() {
    const int64_t column = (int64_t{block_y()} * kThreads + thread_x()) * kStep;
    if (column >= cols && !GPU_PLANTED("add: no guard")) return;
    float v[kStep], w[kStep];
    load_values(a + block_x() * a_stride + column, v);
    load_values(b + block_x() * b_stride + column, w);
    GPU_UNROLL for (int i = 0; i < kStep; ++i) v[i] += w[i];
    store_values(y + block_x() * y_stride + column, v);
  });
}

}  // namespace

template <class T>
void rms_norm(const RmsNormArgs<T>& args, Stream stream) {
  if (args.rows == 0 || args.groups == 0) return;
  bool vectors = rows_are_vectors<T>(args.a, args.width, args.a_stride) &&
                 rows_are_vectors<T>(args.y, args.width, args.y_stride) &&
                 rows_are_vectors<float>(args.weight, args.width, 0);
  if (args.b != nullptr) {
    vectors = vectors && rows_are_vectors<T>(args.b, args.width, args.b_stride) &&
              rows_are_vectors<T>(args.sum, args.width, args.sum_stride);
  }
  const bool wide = args.width * static_cast<int64_t>(sizeof(T)) >= kWideBytes;
  const int64_t groups = args.rows * args.groups;
  // One block holds kThreads / kWarp groups; the smallest warp gives the largest grid, whose surplus leaves at once.
  const auto blocks = static_cast<unsigned>(wide ? groups : (groups + kThreads / 64 - 1) / (kThreads / 64));
  GPU_LAUNCH(rms_norm_kernel<T>, Dim3{blocks}, kThreads, 0, stream, args, wide, vectors);
}

template <class T>
void add(const T* a, int64_t a_stride, const T* b, int64_t b_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols,
         Stream stream) {
  if (rows == 0) return;
  const bool vectors = rows_are_vectors<T>(a, cols, a_stride) && rows_are_vectors<T>(b, cols, b_stride) &&
                       rows_are_vectors<T>(y, cols, y_stride);
  const int64_t threads = vectors ? cols / kPerVec<T> : cols;
  const Dim3 grid = {static_cast<unsigned>(rows), static_cast<unsigned>((threads + kThreads - 1) / kThreads)};
  GPU_LAUNCH(add_kernel<T>, grid, kThreads, 0, stream, a, a_stride, b, b_stride, y, y_stride, cols, vectors);
}

template void add(const float*, int64_t, const float*, int64_t, float*, int64_t, int64_t, int64_t, Stream);
template void add(const f16*, int64_t, const f16*, int64_t, f16*, int64_t, int64_t, int64_t, Stream);
template void add(const bf16*, int64_t, const bf16*, int64_t, bf16*, int64_t, int64_t, int64_t, Stream);
template void rms_norm(const RmsNormArgs<float>&, Stream);
template void rms_norm(const RmsNormArgs<f16>&, Stream);
template void rms_norm(const RmsNormArgs<bf16>&, Stream);

}  // namespace pf::gpu
