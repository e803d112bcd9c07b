// The ops of a mixture of experts on a GPU (contract: ops/moe/moe.h).
//
//   moe_route -> ids, weights
//   moe_align    slots sorted by expert, in blocks of rows that each belong to one expert
//   linear       gate_up with silu_mul, on rows slot / k of x; then down, on the slots themselves  (ops/linear/gpu)
//   moe_combine  the weighted sum of a token's slots, by itself: no float atomics
//
// moe() is the last four. Activations and logits are float, f16 or bf16; expert weights what `linear` reads, with
// per-column scales [E, N] (a per-expert scale is N equal ones) and the groups of packed weights.
#pragma once
#include "../../linear/gpu/linear.h"

namespace pf::gpu {

constexpr int kMaxTopK = 32;
constexpr int kMaxExperts = 4096;

template <class T>
struct RouteArgs {
  const T* logits;    // [tokens, experts]
  const float* bias;  // [experts] or null
  int32_t* ids;       // [tokens, top_k]
  float* weights;     // [tokens, top_k]
  int64_t logits_stride;
  int64_t tokens;
  int experts, top_k;
  bool sigmoid, renormalize;
  float scale;
};

// std::invalid_argument unless 1 <= top_k <= min(experts, kMaxTopK).
template <class T>
void moe_route(const RouteArgs<T>& args, Stream stream);

struct AlignArgs {
  const int32_t* ids;     // [slots]
  int32_t* block_expert;  // [blocks], blocks as moe_blocks says: what ExpertBlocks::expert is
  int32_t* block_slots;   // [blocks * block_rows]: ExpertBlocks::slots; undefined in blocks of expert -1
  int64_t slots;
  int experts, block_rows;
};

// Rows of a block: the smaller blocks waste less padding while experts have few rows each; both give the same bits.
int moe_block_rows(int64_t slots, int experts);
// The most blocks that any routing can fill.
int64_t moe_blocks(int64_t slots, int experts, int block_rows);
void moe_align(const AlignArgs& args, Stream stream);

template <class T>
struct CombineArgs {
  const T* slots;        // [tokens * top_k, cols]; rows of foreign experts are not read
  const int32_t* ids;    // [tokens, top_k]
  const float* weights;  // [tokens, top_k]
  const T* residual;     // [tokens, cols], added first; null = none
  T* y;                  // [tokens, cols]
  int64_t slots_stride, residual_stride, y_stride;
  int64_t tokens, cols;
  int experts, top_k;
};
template <class T>
void moe_combine(const CombineArgs<T>& args, Stream stream);

template <class T>
struct MoeArgs {
  const T* x;            // [tokens, H]
  const int32_t* ids;    // [tokens, top_k]
  const float* weights;  // [tokens, top_k]
  GemmWeight gate_up;    // [experts][2I, H]
  GemmWeight down;       // [experts][H, I]
  const T* residual;     // [tokens, H], added to y; null = none
  T* y;                  // [tokens, H]
  void* scratch;         // moe_scratch() bytes, aligned to 256
  int64_t x_stride, y_stride, residual_stride;
  int64_t tokens;
  int experts, top_k;
};

template <class T>
size_t moe_scratch(int64_t tokens, int top_k, int experts, int64_t hidden, int64_t inner);
template <class T>
void moe(const MoeArgs<T>& args, Stream stream);

}  // namespace pf::gpu
