// The paged KV cache on a GPU, and the ops that write it (contract: ops/attention/attention.h).
//
// One layer's keys are [num_blocks][kv_heads][block_size][head_dim], its values likewise: a token's channels lie side
// by side, so that a few lanes read them in whole sectors. Elements are C: float, f16, bf16, or e4m3 of value / scale;
// or int8_t of value / (the scale of its token and head), which is written beside them: the head's largest magnitude /
// 127.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

template <class C>
struct KvLayer {
  C* k;
  C* v;
  int block_size, kv_heads, head_dim;
  float k_scale = 1.0f, v_scale = 1.0f;
  float* k_scales = nullptr;  // [num_blocks][kv_heads][block_size], of int8_t alone
  float* v_scales = nullptr;

  // First channel of a head of the token at `place` in `block`; a slot is block * block_size + place.
  GPU_HOST_DEVICE int64_t offset(int block, int place, int head) const {
    return ((static_cast<int64_t>(block) * kv_heads + head) * block_size + place) * head_dim;
  }
  GPU_HOST_DEVICE int64_t offset(int slot, int head) const {
    return offset(slot / block_size, slot % block_size, head);
  }
};

// Block to_blocks[i] of `to` becomes block from_blocks[i] of `from`, keys and values, for i < count. Within one cache
// this is copy on write; with a dense layer of `count` blocks on one side it is a gather or a scatter for a transfer.
// Layers differ in their memory alone; no block that is written occurs twice or is read. Pairs with a negative
// to_blocks are skipped, as extend_tables() in blocks.h writes them.
template <class C>
void copy_blocks(const KvLayer<C>& from, const int32_t* from_blocks, const KvLayer<C>& to, const int32_t* to_blocks,
                 int count, Stream stream);

// cs[t] = [cos | sin](positions[t] * inv_freq) * scale, computed in double and rounded once; cs is [tokens, 2 * half],
// `cs_stride` from row to row.
void rope_angles(const int32_t* positions, const float* inv_freq, float* cs, int64_t cs_stride, int64_t tokens,
                 int64_t half, double scale, Stream stream);

template <class T, class C>
struct RopeCacheArgs {
  const T* q;  // [tokens, heads * head_dim]
  const T* k;  // [tokens, kv_heads * head_dim]
  const T* v;
  const float* cs;       // [tokens, rot_dim], of rope_angles
  const int32_t* slots;  // [tokens]; a negative slot is not written
  T* q_out;              // rotated queries; may be q
  KvLayer<C> cache;      // rotated keys, and values, go here
  int64_t q_stride, k_stride, v_stride, cs_stride, q_out_stride;
  int tokens, heads, rot_dim;
  bool interleaved;  // pairs are (2i, 2i + 1) instead of (i, i + rot_dim / 2)
};

// rope of q, rope of k and cache_write in one pass; without heads or without KV heads only the other half of it, and
// nothing is rotated where rot_dim is 0. T: float, f16, bf16; C: T or e4m3, f16 and int8_t for
// float, int8_t for bf16.
template <class T, class C>
void rope_cache(const RopeCacheArgs<T, C>& args, Stream stream);

}  // namespace pf::gpu
