// Attention over many query tokens a sequence, with tensor cores (contract: ops/attention/attention.h): prompts in the
// paged KV cache, whole or in chunks, and encoders that see all of their own tokens. attention.h is for decoding and
// for float.
#pragma once
#include "cache.h"

namespace pf::gpu {

#if GPU_HAS_MMA

template <class T, class C>
struct PrefillArgs {
  const T* q;                   // [tokens, heads * head_dim]
  T* out;                       // of the same shape
  KvLayer<C> cache;             // read only
  const int32_t* query_start;   // [seqs + 1]
  const int32_t* seq_lens;      // [seqs]
  const int32_t* block_tables;  // [seqs][max_blocks]; null: position p is row query_start[s] + p of cache.k and .v
  const int32_t* query_ends;    // [seqs], one past the last token of a sequence that is computed; null: all are
  const int32_t* ends;          // [tokens], one past the last position that a token sees; null: its own is the last
  int64_t q_stride, out_stride;
  int64_t kv_stride;  // elements between those rows, without block_tables
  int tokens, seqs, heads, max_blocks;
  int window;            // 0 = none; else a token at p sees nothing before p + 1 - window
  float scale, softcap;  // softcap 0 = none
};

// head_dim is a multiple of 16 of at most 256, strides are multiples of 8, and pointers of 16 bytes (cache: see there);
// throws std::invalid_argument otherwise. Any number of query heads a KV head. (T, C): f16 f16, bf16 bf16, bf16 e4m3,
// and, with block_tables alone, bf16 int8_t.
//
// A token's bits depend on its query and on the positions that it sees alone, not on what else is in the batch, nor on
// how its prompt was cut into chunks. They are not those of attention(): sums go in another order.
template <class T, class C>
void prefill_attention(const PrefillArgs<T, C>& args, Stream stream);

#endif

}  // namespace pf::gpu
