// Dot products of rows of activations with one tile or strip of a packed weight. Each function is compiled once an
// instruction set; linear_kernels.cpp shares the tiles out among threads.
#pragma once
#include "activations.h"
#include "packed_tiles.h"

namespace pf::PF_ISA {

// Float formats work on strips of two neighbouring tiles, so that a single row still has enough chains of fma in flight
// to outrun memory.
inline constexpr int kFloatStrip = 2;

// out[rows][16] = rows of `a` ([rows][groups]) times a tile. `panel` is room for `groups` times `panel_bytes`, 64-byte
// aligned: many rows are swept over the unpacked tile.
struct QuantizedKernel {
  void (*run)(const uint8_t* tile, int64_t groups, const ActivationGroup* a, int64_t rows, uint8_t* panel, float* out);
  size_t panel_bytes;
};
QuantizedKernel quantized_kernel(int32_t format);

// out[rows][tiles * 16] = rows of x times `tiles` = 1 .. kFloatStrip neighbouring tiles.
using FloatKernel = void (*)(const uint8_t* tile, size_t tile_bytes, int tiles, int64_t K, const float* x,
                             int64_t x_stride, int64_t rows, float* out);
FloatKernel float_kernel(int32_t format);

namespace {

// Dot::run<R> on blocks of at most MaxRows rows; `advance(n)` moves to the next ones.
template <class Dot, int R, class... Arguments>
PF_INLINE void run_exactly(int64_t rows, const Arguments&... arguments) {
  if constexpr (R > 0) {
    if (rows == R) return Dot::template run<R>(arguments...);
    run_exactly<Dot, R - 1>(rows, arguments...);
  }
}

}  // namespace
}  // namespace pf::PF_ISA
