#include <string.h>

#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../attention.h"
#include "attention_ops.h"

namespace pf::PF_ISA {
namespace {

// Neighbouring tokens lie in one cache line of the transposed K, so one thread takes this many of them.
constexpr int64_t kTokensPerTile = 16;

void convert(const float* from, int64_t n, float* to) { memcpy(to, from, static_cast<size_t>(n) * sizeof(float)); }

void convert(const float* from, int64_t n, uint16_t* to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_half(to + i, load(from + i));
  if (i < n) {
    uint16_t left[16];
    store_half(left, load_partial(from + i, n - i, 0.0f));
    memcpy(to + i, left, static_cast<size_t>(n - i) * sizeof(uint16_t));
  }
}

template <class T>
void write_token(const CacheWriteParams& params, const CpuKvCache& cache, int64_t slot, int64_t head, const float* k,
                 const float* v) {
  const int64_t block_size = cache.shape.block_size, dim = params.head_dim;
  const int64_t offset = slot % block_size;
  const size_t at = static_cast<size_t>(params.layer) * cache.layer_bytes +
                    static_cast<size_t>(slot / block_size) * cache.block_bytes;
  T* k_block = reinterpret_cast<T*>(cache.k + at) + head * dim * block_size;
  T* v_block = reinterpret_cast<T*>(cache.v + at) + head * dim * block_size;
  T converted[kMaxHeadDim];
  convert(k + head * dim, dim, converted);
  for (int64_t d = 0; d < dim; ++d) k_block[d * block_size + offset] = converted[d];
  convert(v + head * dim, dim, v_block + offset * dim);
}

}  // namespace

void cache_write(const PfCall& call, const PfStep& step, Worker& worker) {
  const CacheWriteParams params(call);
  const CpuKvCache& cache = *cpu_kv(step.kv);
  const auto write = cache.shape.dtype == PF_F16 ? write_token<uint16_t> : write_token<float>;
  const int64_t tiles = (step.num_tokens + kTokensPerTile - 1) / kTokensPerTile;
  worker.for_each(tiles * params.kv_heads, [&](int64_t i) {
    const int64_t head = i % params.kv_heads, begin = i / params.kv_heads * kTokensPerTile;
    const int64_t end = begin + kTokensPerTile < step.num_tokens ? begin + kTokensPerTile : step.num_tokens;
    for (int64_t t = begin; t < end; ++t) {
      write(params, cache, step.slots[t], head, input_row(call, 0, t), input_row(call, 1, t));
    }
  });
}

}  // namespace pf::PF_ISA
