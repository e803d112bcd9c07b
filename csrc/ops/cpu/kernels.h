// The tables through which the CPU backend reaches its kernels: one function pointer an op, one table an instruction
// set. Each family's `<family>_kernels.cpp` is compiled once a set and defines `const OpTable& <family>_ops()` in
// namespace pf::<isa>; `cpu_backend.cpp` joins the tables of the set chosen at run time.
#pragma once
#include "../../runtime/backend.h"
#include "../../runtime/worker.h"

namespace pf {

// An op, called by every thread of the pool (SPMD, see worker.h). Arguments were checked when the program was bound.
using CpuOp = void (*)(const PfCall& call, const PfStep& step, Worker& worker);

struct OpEntry {
  const char* name;
  CpuOp run;
};
struct OpTable {
  const OpEntry* entries;
  int count;
};

#define PF_DECLARE_FAMILY(family) \
  namespace generic {             \
  const OpTable& family##_ops();  \
  }                               \
  namespace avx2 {                \
  const OpTable& family##_ops();  \
  }                               \
  namespace avx512 {              \
  const OpTable& family##_ops();  \
  }

PF_DECLARE_FAMILY(linear)     // linear, linear with its neighbours, lm_head, embed
PF_DECLARE_FAMILY(attention)  // attention, rope_angles, rope, cache_write
PF_DECLARE_FAMILY(moe)        // moe_gate_up, moe_down
namespace avxvnni {           // only dot products of integers differ with VNNI
const OpTable& linear_ops();
const OpTable& attention_ops();
const OpTable& moe_ops();
}  // namespace avxvnni
namespace avx512vnni {
const OpTable& linear_ops();
const OpTable& attention_ops();
const OpTable& moe_ops();
}  // namespace avx512vnni
PF_DECLARE_FAMILY(norm)        // rms_norm, add_rms_norm, add
PF_DECLARE_FAMILY(activation)  // silu_mul, gather_rows
PF_DECLARE_FAMILY(sample)      // sample

// Channels of keys that share a scale, in caches of codes: a few channels of keys are much larger than the rest.
constexpr int kKeyGroup = 32;
// Sums of a head's products of int8 and int16 codes must stay below 2^31.
constexpr int kMaxInt8HeadDim = 512;

// The paged KV cache of the CPU: [num_blocks][num_layers][kv_heads] of a head's keys, then its values, so that a block
// is one piece of memory and a head's keys and values in it are neighbours. With D = head_dim and B = block_size:
//   PF_F32, PF_F16  keys [D][B] (transposed, so that 16 tokens of one channel are one vector), values [B][D]
//   PF_I8, PF_I16   codes in pairs for the dot product of int16 pairs: keys [P / 2][B][2], values [B / 2][P][2] with
//                   P = D rounded up to 16. What is stored is code * scale; scales are of keys [groups of 32
//                   channels][B] and of values [B], of i8 floats, which follow the keys and the values. Those of i16
//                   are powers of two, the exponents of floats in a byte, and lie together between keys and values,
//                   padded to lines.
struct CpuKvCache {
  PfKvShape shape;
  char* data;
  size_t block_bytes;  // of one block in all layers
  size_t head_bytes;   // of one head of one block: keys first, the rest from
  size_t key_scales_at, values_at, value_scales_at;

  char* keys(int64_t block, int64_t layer, int64_t head) const {
    return data + static_cast<size_t>(block) * block_bytes +
           static_cast<size_t>(layer * shape.kv_heads + head) * head_bytes;
  }
  char* values(int64_t block, int64_t layer, int64_t head) const { return keys(block, layer, head) + values_at; }
  char* key_scales(int64_t block, int64_t layer, int64_t head) const {
    return keys(block, layer, head) + key_scales_at;
  }
  char* value_scales(int64_t block, int64_t layer, int64_t head) const {
    return keys(block, layer, head) + value_scales_at;
  }
};

// A cache of that shape at `data`, which has room for num_blocks * block_bytes.
inline CpuKvCache cpu_kv_at(const PfKvShape& shape, void* data) {
  const auto tokens = static_cast<size_t>(shape.block_size), channels = static_cast<size_t>(shape.head_dim);
  const size_t padded = (channels + 15) / 16 * 16, groups = (channels + kKeyGroup - 1) / kKeyGroup;
  const size_t floats = tokens * sizeof(float), lines = (tokens * (groups + 1) + 63) / 64 * 64;
  const size_t half = tokens * (shape.dtype == PF_I8    ? padded
                                : shape.dtype == PF_I16 ? padded * sizeof(int16_t)
                                : shape.dtype == PF_F16 ? channels * sizeof(uint16_t)
                                                        : channels * sizeof(float));
  CpuKvCache cache = {shape, static_cast<char*>(data), 0, 2 * half, half, half, 2 * half};
  if (shape.dtype == PF_I8) {
    cache.values_at = half + groups * floats;
    cache.value_scales_at = cache.values_at + half;
    cache.head_bytes = cache.value_scales_at + floats;
  } else if (shape.dtype == PF_I16) {
    cache.values_at = half + lines;
    cache.value_scales_at = half + groups * tokens;
    cache.head_bytes = cache.values_at + half;
  }
  cache.block_bytes = static_cast<size_t>(shape.num_layers) * static_cast<size_t>(shape.kv_heads) * cache.head_bytes;
  return cache;
}

}  // namespace pf

// PfKvCache is opaque in the C interface; on the CPU it is a CpuKvCache.
inline pf::CpuKvCache* cpu_kv(PfKvCache* kv) { return reinterpret_cast<pf::CpuKvCache*>(kv); }
