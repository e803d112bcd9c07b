// The op `linear` on a GPU (contract: ops/linear/linear.h): y = x W^T, dense or with weights that are dequantized in
// registers, for one matrix or for the experts of a mixture (ops/moe/gpu/moe.h makes the blocks).
//
//   float            FFMA; an output is one chain of fma over ascending k that starts at 0, as on the CPU
//   f16, bf16        tensor cores, fp32 accumulators over ascending steps of 16 k. A row's bits do not depend on the
//                    number of rows: every tile goes through k alike, and nothing is split along k
//   e4m3             tensor cores of sm_89 and later and of gfx942, steps of 32 k; the output is bf16
//   int8_t           tensor cores, exact sums in int32 (K below 131,072); the output is bf16
//
// A packed weight gives the bits of the dense one that holds round(q d + m): both take the same steps.
#pragma once
#include "../../../gpu/gpu.h"
#include "packed_weight.h"

namespace pf::gpu {

template <class T>
struct OutputOf {
  using type = T;
};
template <>
struct OutputOf<e4m3> {
  using type = bf16;
};
template <>
struct OutputOf<int8_t> {
  using type = bf16;
};
template <class T>
using Output = typename OutputOf<T>::type;

// W[N, K], or one such matrix an expert, back to back. column_scale and the bias then are [experts, N].
struct GemmWeight {
  const void* data = nullptr;  // kPlain: T[N][stride]; else what pack_weight made
  int64_t n = 0, k = 0;
  int64_t stride = 0;  // kPlain: elements between rows
  WeightLayout layout;
  int64_t packed_rows = 0;              // of all experts, where they were packed as one matrix; 0: each by itself
  const float* column_scale = nullptr;  // multiplies the whole sum; null = 1
};

// Rows of x in blocks that each belong to one expert: what moe_align makes.
struct ExpertBlocks {
  const int32_t* expert = nullptr;  // [blocks], -1 = an empty block; null = no experts
  const int32_t* slots = nullptr;   // [blocks * rows]: the row of y, -1 = none
  int blocks = 0, rows = 0;         // rows of a block: 16, 64 or 128
  int slots_per_row = 1;            // slot s reads row s / slots_per_row of x
};

template <class T>
struct LinearArgs {
  const T* x = nullptr;  // [rows, K]
  GemmWeight weight;
  Output<T>* y = nullptr;    // [rows, N], or [rows, N / 2] with silu_mul
  float* y_float = nullptr;  // if not null, it is written instead of y
  int64_t rows = 0;
  int64_t x_stride = 0, y_stride = 0, residual_stride = 0;
  const float* x_scale = nullptr;       // [rows] of x, multiplies the whole sum; null = 1
  const float* bias = nullptr;          // [N] or null
  const Output<T>* residual = nullptr;  // added last, of y's shape; may be y itself; null = none
  bool silu_mul = false;                // rows of W are gate 0, up 0, gate 1, ...: y = silu(gate) * up
  ExpertBlocks experts;
};

// std::invalid_argument for a shape or a format that there is no kernel for. T: float, f16, bf16, e4m3, int8_t; the
// last two only with plain weights of their own type and rows of whole 16 bytes, e4m3 on a device that has_fp8_mma().
template <class T>
void linear(const LinearArgs<T>& args, Stream stream);

}  // namespace pf::gpu
