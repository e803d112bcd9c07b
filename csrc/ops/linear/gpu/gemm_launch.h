// Chooses a kernel and launches it. Each file of a type instantiates what it needs.
#pragma once
#include <type_traits>

#include "gemm_ffma.h"
#include "gemm_mma.h"

namespace pf::gpu {

namespace detail {

// Whether `p` and the distance of its rows suit accesses of four elements, or of two.
template <class E>
bool rows_of_few(const E* p, int64_t stride, int count) {
  return p == nullptr ||
         (reinterpret_cast<uintptr_t>(p) % (static_cast<size_t>(count) * sizeof(E)) == 0 && stride % count == 0);
}

constexpr int64_t kMostInt8 = 131072;  // products of -128 and -128 fill an int32

template <class T>
GemmCall<T> plan(const LinearArgs<T>& args) {
  const GemmWeight& w = args.weight;
  GemmCall<T> call{};
  call.args = args;
  call.x_vectors = rows_are_vectors<T>(args.x, w.k, args.x_stride);
  if (w.layout.format == WeightFormat::kPlain) {
    call.w_vectors = rows_are_vectors<T>(w.data, w.k, w.stride);
    call.expert_bytes = w.n * w.stride * static_cast<int64_t>(sizeof(T));
  } else {
    if (reinterpret_cast<uintptr_t>(w.data) % 16 != 0) refuse_gemm("a packed weight is not aligned to 16 bytes");
    if (w.layout.group != 0 && w.k % w.layout.group != 0) {
      refuse_gemm("K is " + std::to_string(w.k) + ", no multiple of the weight's groups of " +
                  std::to_string(w.layout.group));
    }
    call.record_bytes = w.layout.record_bytes();
    call.groups = w.layout.groups();
    call.panels = call.tile_panels = packed_panels(w.n);
    call.expert_bytes = static_cast<int64_t>(packed_bytes(w.layout, w.n, w.k));
    if (w.packed_rows != 0) {
      if (w.n % kPanelRows != 0) {
        refuse_gemm("experts that were packed as one matrix have " + std::to_string(w.n) +
                    " rows each, no multiple of " + std::to_string(kPanelRows));
      }
      call.tile_panels = packed_panels(w.packed_rows);
      call.expert_bytes = call.panels * call.record_bytes;
    }
  }
  if (std::is_same_v<T, int8_t> && w.k >= kMostInt8) {
    refuse_gemm("K is " + std::to_string(w.k) + "; sums of int8 are exact below " + std::to_string(kMostInt8));
  }
  if (args.silu_mul && w.n % 2 != 0) refuse_gemm("silu_mul of " + std::to_string(w.n) + " columns, an odd number");
  const int few = args.silu_mul ? 2 : 4;
  call.y_vectors = w.n % 4 == 0 && rows_of_few(args.y, args.y_stride, few) &&
                   rows_of_few(args.y_float, args.y_stride, few) &&
                   rows_of_few(args.residual, args.residual_stride, few) && rows_of_few(args.bias, w.n, 4) &&
                   rows_of_few(w.column_scale, w.n, 4);
  return call;
}

template <class T, WeightFormat kFormat>
void launch_ffma(const GemmCall<T>& call, Stream stream) {
  if (call.args.experts.rows > FfmaTile::kRows) refuse_gemm("blocks of more than 64 rows need tensor cores");
  GPU_LAUNCH((gemm_ffma_kernel<T, kFormat>), (gemm_grid(call.args, FfmaTile::kRows, FfmaTile::kColumns)),
             FfmaTile::kThreads, 0, stream, call);
}

}  // namespace detail

template <class T>
void linear(const LinearArgs<T>& args, Stream stream) {
  using detail::launch_ffma;
  if (args.weight.n == 0 || (args.experts.expert == nullptr ? args.rows == 0 : args.experts.blocks == 0)) return;
  const GemmCall<T> call = detail::plan(args);
  if constexpr (!std::is_same_v<T, float>) {
    if (detail::launch_mma(call, stream)) return;
  }
  if constexpr (sizeof(T) == 1) {
    detail::refuse_gemm(
        "8-bit activations need plain weights of their type, rows of whole 16 bytes, and, for e4m3, sm_89 or later or "
        "gfx942");
  } else {
    switch (args.weight.layout.format) {
      case WeightFormat::kPlain:
        return launch_ffma<T, WeightFormat::kPlain>(call, stream);
      case WeightFormat::kInt8:
        if constexpr (std::is_same_v<T, float>) return launch_ffma<T, WeightFormat::kInt8>(call, stream);
        break;
      case WeightFormat::kInt4:
        if constexpr (std::is_same_v<T, float>) return launch_ffma<T, WeightFormat::kInt4>(call, stream);
        break;
      case WeightFormat::kE4m3:
        if constexpr (std::is_same_v<T, float>) return launch_ffma<T, WeightFormat::kE4m3>(call, stream);
        break;
    }
    detail::refuse_gemm("rows of x beside a packed weight must be whole vectors of 16 bytes");
  }
}

}  // namespace pf::gpu
