// Attention over the paged KV cache on a GPU (contract: ops/attention/attention.h), made for decoding: few query tokens
// a sequence. It is right for any number of them, as float needs, and GPUs without tensor-core tiles; see prefill.h.
#pragma once
#include "cache.h"

namespace pf::gpu {

// Positions of one split. Splits lie at absolute places, so that what is summed in which order does not depend on the
// batch; a split is the work of one block.
constexpr int kAttentionSplit = 512;

template <class T, class C>
struct AttentionArgs {
  const T* q;                   // [tokens, heads * head_dim]
  T* out;                       // of the same shape
  KvLayer<C> cache;             // read only
  const int32_t* query_start;   // [seqs + 1]
  const int32_t* seq_lens;      // [seqs]
  const int32_t* block_tables;  // [seqs][max_blocks]
  const int32_t* rows;          // [tokens], the rows of q and out that are computed; null: 0, 1, 2, ...
  float* partials;              // attention_partials() floats, uninitialized
  int64_t q_stride, out_stride;
  int tokens, seqs, heads, max_blocks;
  int max_len;           // no sequence is longer
  int window;            // 0 = none
  float scale, softcap;  // softcap 0 = none
};

// Floats of scratch memory.
size_t attention_partials(int64_t tokens, int64_t heads, int64_t head_dim, int64_t max_len);

// head_dim is 64, 80, 96, 128 or 256; throws std::invalid_argument otherwise. Any number of query heads a KV head.
// (T, C): float float, float f16, f16 f16, bf16 bf16, bf16 e4m3, float int8_t, bf16 int8_t.
template <class T, class C>
void attention(const AttentionArgs<T, C>& args, Stream stream);

}  // namespace pf::gpu
