#include <string.h>

#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../attention.h"
#include "attention_ops.h"

namespace pf::PF_ISA {
namespace {

// Neighbouring tokens lie in one cache line of the transposed K, so one thread takes this many of them.
constexpr int64_t kTokensPerTile = 16;

// Sixteen values, of which n count, in the cache's type.
PF_INLINE void convert(const float* from, int64_t n, float* sixteen) {
  store(sixteen, n >= 16 ? load(from) : load_partial(from, n, 0.0f));
}
PF_INLINE void convert(const float* from, int64_t n, uint16_t* sixteen) {
  store_half(sixteen, n >= 16 ? load(from) : load_partial(from, n, 0.0f));
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
  for (int64_t d = 0; d < dim; d += 16) {
    const int64_t n = dim - d < 16 ? dim - d : 16;
    T keys[16], values[16];
    convert(k + head * dim + d, n, keys);
    convert(v + head * dim + d, n, values);
    for (int64_t i = 0; i < n; ++i) k_block[(d + i) * block_size + offset] = keys[i];
    memcpy(v_block + offset * dim + d, values, static_cast<size_t>(n) * sizeof(T));
  }
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
