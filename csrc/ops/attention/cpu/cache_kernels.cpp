#include <float.h>
#include <math.h>
#include <string.h>

#include "../../cpu/kernels.h"
#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../../linear/cpu/int_simd.h"
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
void write_head(const CpuKvCache& cache, int64_t offset, const float* k, const float* v, char* keys, char* values) {
  const int64_t block_size = cache.shape.block_size, dim = cache.shape.head_dim;
  T* k_block = reinterpret_cast<T*>(keys);
  T* v_block = reinterpret_cast<T*>(values);
  for (int64_t d = 0; d < dim; d += 16) {
    const int64_t n = dim - d < 16 ? dim - d : 16;
    T k16[16], v16[16];
    convert(k + d, n, k16);
    convert(v + d, n, v16);
    for (int64_t i = 0; i < n; ++i) k_block[(d + i) * block_size + offset] = k16[i];
    memcpy(v_block + offset * dim + d, v16, static_cast<size_t>(n) * sizeof(T));
  }
}

// Calls put(channel, code) for the codes of `count` values and gives back their scale: the largest magnitude is 127
// times it. Where a value is no finite number the scale is none either.
template <class Put>
PF_INLINE float quantize(const float* x, int64_t count, Put&& put) {
  const auto sixteen = [&](int64_t d) { return count - d >= 16 ? load(x + d) : load_partial(x + d, count - d, 0.0f); };
  uint32_t largest = 0;
  for (int64_t d = 0; d < count; d += 16) {
    const uint32_t bits = largest_magnitude(sixteen(d), zero());
    if (bits > largest) largest = bits;
  }
  const float scale = bits_to_float(largest) / 127.0f;
  const bool usable = scale >= FLT_MIN && scale < INFINITY;  // below, quotients could exceed 127
  for (int64_t d = 0; d < count; d += 16) {
    int8_t codes[16] = {};
    if (usable) store_rounded(codes, div(sixteen(d), set1(scale)));
    const int64_t n = count - d < 16 ? count - d : 16;
    for (int64_t i = 0; i < n; ++i) put(d + i, codes[i]);
  }
  return scale;
}

void write_int8_head(const CpuKvCache& cache, int64_t offset, const float* k, const float* v, char* keys,
                     char* values) {
  const int64_t block_size = cache.shape.block_size, dim = cache.shape.head_dim, channels = (dim + 15) / 16 * 16;
  int8_t* v_block = reinterpret_cast<int8_t*>(values) + offset / 2 * 2 * channels + offset % 2;
  const float v_scale = quantize(v, dim, [&](int64_t d, int8_t code) { v_block[2 * d] = code; });
  reinterpret_cast<float*>(values + channels * block_size)[offset] = v_scale;
  for (int64_t first = 0; first < dim; first += kInt8KeyGroup) {
    int8_t* k_block = reinterpret_cast<int8_t*>(keys) + first * block_size + 2 * offset;
    const int64_t count = dim - first < kInt8KeyGroup ? dim - first : kInt8KeyGroup;
    float scale =
        quantize(k + first, count, [&](int64_t d, int8_t code) { k_block[d / 2 * 2 * block_size + d % 2] = code; });
    // Values that are no numbers must show in whoever sees them; codes of weights would hide it, scores do not.
    if (!(v_scale < INFINITY)) scale = NAN;
    reinterpret_cast<float*>(keys + channels * block_size)[first / kInt8KeyGroup * block_size + offset] = scale;
  }
}

}  // namespace

void cache_write(const PfCall& call, const PfStep& step, Worker& worker) {
  const CacheWriteParams params(call);
  const CpuKvCache& cache = *cpu_kv(step.kv);
  const auto write = cache.shape.dtype == PF_F32   ? write_head<float>
                     : cache.shape.dtype == PF_F16 ? write_head<uint16_t>
                                                   : write_int8_head;
  const int64_t tiles = (step.num_tokens + kTokensPerTile - 1) / kTokensPerTile;
  worker.for_each(tiles * params.kv_heads, [&](int64_t i) {
    const int64_t head = i % params.kv_heads, begin = i / params.kv_heads * kTokensPerTile;
    const int64_t end = begin + kTokensPerTile < step.num_tokens ? begin + kTokensPerTile : step.num_tokens;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t block = step.slots[t] / cache.shape.block_size, at = head * params.head_dim;
      write(cache, step.slots[t] % cache.shape.block_size, input_row(call, 0, t) + at, input_row(call, 1, t) + at,
            cache.keys(block, params.layer, head), cache.values(block, params.layer, head));
    }
  });
}

}  // namespace pf::PF_ISA
