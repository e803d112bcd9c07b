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

// Dot::run<rows>(arguments...) for rows = 1 .. R.
template <class Dot, int R, class... Arguments>
PF_INLINE void run_rows(int64_t rows, const Arguments&... arguments) {
  if constexpr (R > 0) {
    if (rows == R) return Dot::template run<R>(arguments...);
    run_rows<Dot, R - 1>(rows, arguments...);
  }
}

// How many of `rows` to take next, so that blocks of at most `most` rows are about equal.
constexpr int64_t next_block(int64_t rows, int64_t most) {
  const int64_t blocks = (rows + most - 1) / most;
  return (rows + blocks - 1) / blocks;
}

}  // namespace
}  // namespace pf::PF_ISA
