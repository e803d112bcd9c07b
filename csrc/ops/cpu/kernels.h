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

PF_DECLARE_FAMILY(linear)     // linear, lm_head, embed
PF_DECLARE_FAMILY(attention)  // attention, rope_angles, rope, cache_write
namespace avxvnni {           // only dot products of integers differ with VNNI
const OpTable& linear_ops();
const OpTable& attention_ops();
}  // namespace avxvnni
namespace avx512vnni {
const OpTable& linear_ops();
const OpTable& attention_ops();
}  // namespace avx512vnni
PF_DECLARE_FAMILY(norm)        // rms_norm, add_rms_norm, add
PF_DECLARE_FAMILY(activation)  // silu_mul, gather_rows
PF_DECLARE_FAMILY(sample)      // sample

// The paged KV cache of the CPU: [num_blocks][num_layers][kv_heads] of a head's keys, then its values, so that a block
// is one piece of memory and a head's keys and values in it are neighbours. With D = head_dim and B = block_size:
//   PF_F32, PF_F16  keys [D][B] (transposed, so that 16 tokens of one channel are one vector), values [B][D]
//   PF_I8           codes in pairs for the dot product of int16 pairs: keys [P / 2][B][2], values [B / 2][P][2] with
//                   P = D rounded up to 16; after either its scales, float [B]: a value is code * scale of its token
struct CpuKvCache {
  PfKvShape shape;
  char* data;
  size_t block_bytes;  // of one block in all layers
  size_t half_bytes;   // of the keys, or the values, of one head of one block

  char* keys(int64_t block, int64_t layer, int64_t head) const {
    return data + static_cast<size_t>(block) * block_bytes +
           static_cast<size_t>(layer * shape.kv_heads + head) * 2 * half_bytes;
  }
  char* values(int64_t block, int64_t layer, int64_t head) const { return keys(block, layer, head) + half_bytes; }
};

// Sums of a head's products of int8 and int16 codes stay below 2^31: 516 * 127 * 32,767.
constexpr int kMaxInt8HeadDim = 512;

// Bytes of the keys, or of the values, of one head of one block.
inline size_t cpu_kv_half_bytes(const PfKvShape& shape) {
  const auto tokens = static_cast<size_t>(shape.block_size), channels = static_cast<size_t>(shape.head_dim);
  if (shape.dtype == PF_I8) return tokens * ((channels + 15) / 16 * 16 + sizeof(float));
  return tokens * channels * (shape.dtype == PF_F32 ? 4 : 2);
}

}  // namespace pf

// PfKvCache is opaque in the C interface; on the CPU it is a CpuKvCache.
inline pf::CpuKvCache* cpu_kv(PfKvCache* kv) { return reinterpret_cast<pf::CpuKvCache*>(kv); }
