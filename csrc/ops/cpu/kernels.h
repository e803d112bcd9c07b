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

// Channels of int8 keys that share a scale: a few channels of keys are much larger than the rest.
constexpr int kInt8KeyGroup = 32;
// Sums of a head's products of int8 and int16 codes must stay below 2^31.
constexpr int kMaxInt8HeadDim = 512;

// The paged KV cache of the CPU: [num_blocks][num_layers][kv_heads] of a head's keys, then its values, so that a block
// is one piece of memory and a head's keys and values in it are neighbours. With D = head_dim and B = block_size:
//   PF_F32, PF_F16  keys [D][B] (transposed, so that 16 tokens of one channel are one vector), values [B][D]
//   PF_I8           codes in pairs for the dot product of int16 pairs: keys [P / 2][B][2], values [B / 2][P][2] with
//                   P = D rounded up to 16. After them their float scales: of keys [groups of 32 channels][B], of
//                   values [B]. What is stored is code * scale.
struct CpuKvCache {
  PfKvShape shape;
  char* data;
  size_t block_bytes;  // of one block in all layers
  size_t head_bytes;   // of the keys and values of one head of one block
  size_t key_bytes;    // of the keys alone

  char* keys(int64_t block, int64_t layer, int64_t head) const {
    return data + static_cast<size_t>(block) * block_bytes +
           static_cast<size_t>(layer * shape.kv_heads + head) * head_bytes;
  }
  char* values(int64_t block, int64_t layer, int64_t head) const { return keys(block, layer, head) + key_bytes; }
};

// A cache of that shape at `data`, which has room for num_blocks * block_bytes.
inline CpuKvCache cpu_kv_at(const PfKvShape& shape, void* data) {
  const auto tokens = static_cast<size_t>(shape.block_size), channels = static_cast<size_t>(shape.head_dim);
  const size_t padded = (channels + 15) / 16 * 16, groups = (channels + kInt8KeyGroup - 1) / kInt8KeyGroup;
  const bool int8 = shape.dtype == PF_I8;
  const size_t half = channels * (shape.dtype == PF_F32 ? 4 : 2);
  const size_t key_bytes = tokens * (int8 ? padded + groups * sizeof(float) : half);
  const size_t head_bytes = key_bytes + tokens * (int8 ? padded + sizeof(float) : half);
  const size_t block_bytes = static_cast<size_t>(shape.num_layers) * static_cast<size_t>(shape.kv_heads) * head_bytes;
  return {shape, static_cast<char*>(data), block_bytes, head_bytes, key_bytes};
}

}  // namespace pf

// PfKvCache is opaque in the C interface; on the CPU it is a CpuKvCache.
inline pf::CpuKvCache* cpu_kv(PfKvCache* kv) { return reinterpret_cast<pf::CpuKvCache*>(kv); }
