#include <float.h>
#include <math.h>
#include <string.h>

#include "../../cpu/kernels.h"
#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../attention.h"
#include "attention_ops.h"
#include "codes.h"

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
void write_head(const CpuKvCache& cache, int64_t block, int64_t layer, int64_t head, int64_t offset, const float* k,
                const float* v) {
  const int64_t block_size = cache.shape.block_size, dim = cache.shape.head_dim;
  T* k_block = reinterpret_cast<T*>(cache.keys(block, layer, head));
  T* v_block = reinterpret_cast<T*>(cache.values(block, layer, head));
  for (int64_t d = 0; d < dim; d += 16) {
    const int64_t n = dim - d < 16 ? dim - d : 16;
    T k16[16], v16[16];
    convert(k + d, n, k16);
    convert(v + d, n, v16);
    for (int64_t i = 0; i < n; ++i) k_block[(d + i) * block_size + offset] = k16[i];
    memcpy(v_block + offset * dim + d, v16, static_cast<size_t>(n) * sizeof(T));
  }
}

// Bits of the largest magnitude of `count` values: at least those of infinity where one is no finite number.
PF_INLINE uint32_t largest_of(const float* x, int64_t count) {
  uint32_t largest = 0;
  for (int64_t d = 0; d < count; d += 16) {
    const F16x values = count - d >= 16 ? load(x + d) : load_partial(x + d, count - d, 0.0f);
    const uint32_t bits = largest_magnitude(values, zero());
    if (bits > largest) largest = bits;
  }
  return largest;
}

// Calls put(channel, code) for the codes of `count` values: scaled(sixteen values) rounded, or 0 where not `usable`.
template <class T, class Scaled, class Put>
PF_INLINE void put_codes(const float* x, int64_t count, bool usable, Scaled&& scaled, Put&& put) {
  for (int64_t d = 0; d < count; d += 16) {
    const int64_t n = count - d < 16 ? count - d : 16;
    T codes[16] = {};
    if (usable) store_rounded(codes, scaled(n == 16 ? load(x + d) : load_partial(x + d, n, 0.0f)));
    for (int64_t i = 0; i < n; ++i) put(d + i, codes[i]);
  }
}

// Puts the codes of `count` values and gives back their scale. Of int8 the largest becomes 127, of int16 at least
// 2^(kBits - 1) and at most 2^kBits. `largest` is its bits; where it is no finite number, codes are 0 and so is no
// scale.
template <class T, int kBits, class Put>
PF_INLINE typename Codes<T>::Scale quantize(const float* x, int64_t count, uint32_t largest, Put&& put) {
  const bool finite = bits_to_float(largest) < INFINITY;
  if constexpr (sizeof(T) == 1) {
    const float scale = bits_to_float(largest) / 127.0f;
    const bool usable = finite && scale >= FLT_MIN;  // below, quotients could exceed 127
    put_codes<T>(x, count, usable, [&](F16x values) { return div(values, set1(scale)); }, put);
    return scale;
  } else {
    constexpr uint32_t kDown = kBits - 1;
    const uint32_t exponent = largest >> 23;
    const bool usable = finite && exponent > kDown;
    const float inverse = usable ? bits_to_float((254 + kDown - exponent) << 23) : 0.0f;
    put_codes<T>(x, count, usable, [&](F16x values) { return mul(values, set1(inverse)); }, put);
    return static_cast<uint8_t>(!finite ? 255 : usable ? exponent - kDown : 0);
  }
}

template <class T>
void write_code_head(const CpuKvCache& cache, int64_t block, int64_t layer, int64_t head, int64_t offset,
                     const float* k, const float* v) {
  using Scale = typename Codes<T>::Scale;
  const int64_t block_size = cache.shape.block_size, dim = cache.shape.head_dim;
  T* keys = reinterpret_cast<T*>(cache.keys(block, layer, head)) + 2 * offset;
  T* values = reinterpret_cast<T*>(cache.values(block, layer, head)) + offset / 2 * 2 * padded(dim) + offset % 2;
  Scale* key_scales = reinterpret_cast<Scale*>(cache.key_scales(block, layer, head)) + offset;
  Scale* value_scales = reinterpret_cast<Scale*>(cache.value_scales(block, layer, head)) + offset;
  const uint32_t largest_value = largest_of(v, dim);
  value_scales[0] =
      quantize<T, Codes<T>::kValueBits>(v, dim, largest_value, [&](int64_t d, T code) { values[2 * d] = code; });
  // Values that are no numbers must show in whoever sees them; codes of weights would hide it, scores do not.
  const uint32_t at_least = bits_to_float(largest_value) < INFINITY ? 0 : float_to_bits(NAN);
  for (int64_t first = 0; first < dim; first += kKeyGroup) {
    const int64_t count = dim - first < kKeyGroup ? dim - first : kKeyGroup;
    const uint32_t own = largest_of(k + first, count);
    T* group = keys + first * block_size;
    key_scales[first / kKeyGroup * block_size] =
        quantize<T, Codes<T>::kKeyBits>(k + first, count, own > at_least ? own : at_least,
                                        [&](int64_t d, T code) { group[d / 2 * 2 * block_size + d % 2] = code; });
  }
}

}  // namespace

void cache_write(const PfCall& call, const PfStep& step, Worker& worker) {
  const CacheWriteParams params(call);
  const CpuKvCache& cache = *cpu_kv(step.kv);
  const auto write = cache.shape.dtype == PF_F32   ? write_head<float>
                     : cache.shape.dtype == PF_F16 ? write_head<uint16_t>
                     : cache.shape.dtype == PF_I16 ? write_code_head<int16_t>
                                                   : write_code_head<int8_t>;
  const int64_t tiles = (step.num_tokens + kTokensPerTile - 1) / kTokensPerTile;
  worker.for_each(tiles * params.kv_heads, [&](int64_t i) {
    const int64_t head = i % params.kv_heads, begin = i / params.kv_heads * kTokensPerTile;
    const int64_t end = begin + kTokensPerTile < step.num_tokens ? begin + kTokensPerTile : step.num_tokens;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t block_size = cache.shape.block_size, at = head * params.head_dim;
      write(cache, step.slots[t] / block_size, params.layer, head, step.slots[t] % block_size,
            input_row(call, 0, t) + at, input_row(call, 1, t) + at);
    }
  });
}

}  // namespace pf::PF_ISA
