// Kernels of the float formats: each output is one chain of fp32 fma over ascending k.
#include "tile_kernels.h"

namespace pf::PF_ISA {
namespace {

// Rows that share one pass over Tiles tiles: their accumulators, two a tile and row on AVX2, fill the registers. From 3
// rows on AVX2 takes tiles one by one, so that converting a weight serves 6 rows (f16: 52 -> 100 GFLOP/s a thread).
template <int Tiles>
constexpr int kMaxRows = PF_ISA_LEVEL == PF_ISA_avx512 ? 8
                         : Tiles == 1                  ? 6
                                                       : 2;
constexpr int64_t kStripRows = PF_ISA_LEVEL == PF_ISA_avx512 ? INT64_MAX : kMaxRows<kFloatStrip>;

struct LoadF32 {
  using Element = float;
  static PF_INLINE F16x load16(const float* p) { return load(p); }
};
struct LoadF16 {
  using Element = uint16_t;
  static PF_INLINE F16x load16(const uint16_t* p) { return load_half(p); }
};
struct LoadBF16 {
  using Element = uint16_t;
  static PF_INLINE F16x load16(const uint16_t* p) { return load_bfloat(p); }
};

template <class Load, int Tiles>
struct DotFloat {
  template <int R>
  static void run(const uint8_t* tile, size_t tile_bytes, int64_t K, const float* x, int64_t x_stride, float* out,
                  int64_t out_stride) {
    const typename Load::Element* w[Tiles];
    F16x acc[R][Tiles];
    unroll<Tiles>([&](auto t) {
      constexpr int T = decltype(t)::value;
      w[T] = reinterpret_cast<const typename Load::Element*>(tile + T * tile_bytes);
      unroll<R>([&](auto r) { acc[decltype(r)::value][T] = zero(); });
    });
    for (int64_t k = 0; k < K; ++k) {
      unroll<Tiles>([&](auto t) {
        constexpr int T = decltype(t)::value;
        const F16x column = Load::load16(w[T] + k * kTile);
        unroll<R>([&](auto i) {
          constexpr int r = decltype(i)::value;
          acc[r][T] = fma(set1(x[r * x_stride + k]), column, acc[r][T]);
        });
      });
    }
    unroll<R>([&](auto i) {
      constexpr int r = decltype(i)::value;
      unroll<Tiles>([&](auto t) {
        constexpr int T = decltype(t)::value;
        store(out + r * out_stride + T * kTile, acc[r][T]);
      });
    });
  }
};

template <class Load, int Tiles>
void sweep(const uint8_t* tile, size_t tile_bytes, int64_t K, const float* x, int64_t x_stride, int64_t rows,
           float* out, int64_t out_stride) {
  using Dot = DotFloat<Load, Tiles>;
  constexpr int R = kMaxRows<Tiles>;
  while (rows > 0) {
    const int64_t block = next_block(rows, R);
    run_rows<Dot, R>(block, tile, tile_bytes, K, x, x_stride, out, out_stride);
    rows -= block, x += block * x_stride, out += block * out_stride;
  }
}

template <class Load>
void run_float(const uint8_t* tile, size_t tile_bytes, int tiles, int64_t K, const float* x, int64_t x_stride,
               int64_t rows, float* out) {
  const int64_t out_stride = tiles * kTile;
  if (tiles == kFloatStrip && rows <= kStripRows) {
    return sweep<Load, kFloatStrip>(tile, tile_bytes, K, x, x_stride, rows, out, out_stride);
  }
  for (int t = 0; t < tiles; ++t, tile += tile_bytes, out += kTile) {
    sweep<Load, 1>(tile, tile_bytes, K, x, x_stride, rows, out, out_stride);
  }
}

}  // namespace

FloatKernel float_kernel(int32_t format) {
  switch (format) {
    case PF_FMT_F32:
      return run_float<LoadF32>;
    case PF_FMT_F16:
      return run_float<LoadF16>;
    default:
      return run_float<LoadBF16>;
  }
}

}  // namespace pf::PF_ISA
