// Low-rank adapters on a GPU, many in one batch: rows of different adapters lie in segments, and each segment is
// multiplied with its own pair of matrices (LoRA: E. Hu et al., 2021; in batches: L. Chen et al., Punica, 2023).
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

// y[t] += scales[s] * (x[t] A_s^T) B_s for every row t of a segment whose adapter is s.
template <class T>
struct LoraArgs {
  const T* x;                        // [rows, k]
  T* y;                              // [rows, n]
  const T* a;                        // [slots][max_rank][k]
  const T* b;                        // [slots][max_rank][n]: transposed, against what checkpoints hold
  const int32_t* ranks;              // [slots], at most max_rank
  const float* scales;               // [slots]
  const int32_t* seg_start;          // [segments + 1], rows
  const int32_t* seg_slots;          // [segments], -1 = no adapter: y stays as it is
  float* h;                          // [rows, max_rank], scratch
  int64_t x_stride, y_stride, k, n;  // strides are elements between rows
  int rows, segments, max_rank;
};

// max_rank is at most 128; k, n, strides and addresses are whole vectors of 16 bytes; throws std::invalid_argument
// otherwise. Sums are in float, and their order does not depend on the batch. T: float, f16, bf16.
template <class T>
void lora(const LoraArgs<T>& args, Stream stream);

}  // namespace pf::gpu
