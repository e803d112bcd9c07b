// Matrix tiles: the words in which a kernel multiplies matrices, whatever the vendor. A warp multiplies A of 16 rows
// with B of kTileColumns columns over a step of 32 bytes of k (16 k of 16-bit types, 32 of 8-bit ones) and adds to D.
// Kernels know which elements of D a lane has, and nothing of where operands lie. cuda/tiles.h and hip/tiles.h define:
//
//   mma<T>(d, a, b)            d += a b; Sum d[kTileValues], uint32_t a[kRegistersA], b[kRegistersB]. Sum is float, of
//                              int8_t int32_t. T: f16, bf16, int8_t, and e4m3 where GPU_HAS_FP8_MMA
//   tile_row(h)                the row of value d[h kLaneColumns + j], h < kLaneRows
//   tile_column(j)             its column, j < kLaneColumns; kColumnRun values follow each other in a row of D
//   load_a(a, place)           place(row, chunk) tells where sixteen bytes of shared memory are, row < 16, chunk < 2
//   load_b(of16, place)        sixteen columns of B, whose k lie together; uint32_t of16[kRegistersOf16]
//   pick_b(of16, half, b)      one operand of them; half is 0 or, where kTileColumns is 8, 1
//   load_b_two_steps(of16, place)
//                              where kTileColumns is 8: place(column, chunk), 8 and 4 of them; half is the step
//   operand_column()           the column of B that a lane has elements of
//   kSumFactor<T>              what sums are to be multiplied with
//   kMaxShared                 bytes of shared memory that a block can have on every target
//   warp_lanes()               for the host: kWarp of the current device
#pragma once
#include <type_traits>

#include "gpu.h"

#if GPU_AMD_TILES
#include "hip/tiles.h"
#else
#include "cuda/tiles.h"
#endif
