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

PF_DECLARE_FAMILY(linear)  // linear, linear with its neighbours, lm_head, embed
namespace avxvnni {        // only dot products of bytes differ with VNNI
const OpTable& linear_ops();
}
namespace avx512vnni {
const OpTable& linear_ops();
}
PF_DECLARE_FAMILY(norm)        // rms_norm, add_rms_norm, add
PF_DECLARE_FAMILY(attention)   // attention, rope_angles, rope, cache_write
PF_DECLARE_FAMILY(activation)  // silu_mul, gather_rows
PF_DECLARE_FAMILY(sample)      // sample

// The paged KV cache of the CPU. Layer l, block b: K is [kv_heads][head_dim][block_size] (transposed inside the block,
// so that 16 tokens of one channel are one vector), V is [kv_heads][block_size][head_dim].
struct CpuKvCache {
  PfKvShape shape;
  char* k;
  char* v;
  size_t layer_bytes;  // of k, and of v
  size_t block_bytes;  // of one block in one layer of k, and of v
};

}  // namespace pf

// PfKvCache is opaque in the C interface; on the CPU it is a CpuKvCache.
inline pf::CpuKvCache* cpu_kv(PfKvCache* kv) { return reinterpret_cast<pf::CpuKvCache*>(kv); }
