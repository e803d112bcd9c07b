// The ops of the GPU backend: each turns a bound call into launches. They run on the host, look at no device memory,
// and wait for nothing, so that their launches can be captured.
#pragma once
#include <string>

#include "../../runtime/backend.h"
#include "gpu_weight.h"
#include "library_gemm.h"

namespace pf::gpu {

// The paged KV cache: layer l is [k][v], see ops/attention/gpu/cache.h.
struct GpuKvCache {
  PfKvShape shape;
  char* memory;        // of the device
  size_t layer_bytes;  // of k, and of v
};

// A step as its launches see it; pointers are the device's and the same in every step of a program.
struct GpuStep {
  int tokens = 0, seqs = 0, rows = 0;
  const int32_t* token_ids = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* slots = nullptr;  // -1: not kept
  const int32_t* query_start = nullptr;
  const int32_t* seq_lens = nullptr;
  const int32_t* block_tables = nullptr;  // [seqs][max_blocks]
  const int32_t* logits_rows = nullptr;
  // Where has_prefill() and some tokens are their prompt's: where these end in each sequence, [seqs]; and the other
  // tokens, [num_generated]. Null in all other steps.
  const int32_t* prompt_ends = nullptr;
  const int32_t* generated = nullptr;
  int num_generated = 0;
  int max_blocks = 0;
  int max_len = 0;  // no sequence is longer
  const GpuKvCache* kv = nullptr;
  float* partials = nullptr;    // scratch of attention, see GpuOp::scratch
  LibraryGemm* gemm = nullptr;  // a vendor's, asked first; null: there is none, or it may not be used
};

struct GpuOp {
  const char* name;
  void (*launch)(const PfCall& call, const GpuStep& step, Stream stream);  // null: the device runs it by itself
  size_t (*scratch)(const PfCall& call, const GpuStep& step);              // floats of GpuStep::partials; null: none
};

// By handle.
const GpuOp& gpu_op(int32_t handle);
int32_t num_gpu_ops();
int32_t gpu_op_handle(const char* name);  // -1 when there is none

// Lets the library's GEMM be compared with ours for the product that `call` is, of up to so many rows; nothing for
// other ops.
void measure_gemm(const PfCall& call, LibraryGemm& gemm, int64_t most_rows);

// Copies whole blocks of all layers; no block that is written occurs twice or is read.
void copy_cache_blocks(const GpuKvCache& kv, const int32_t* from, const int32_t* to, int count, Stream stream);

// std::invalid_argument for a cache that the ops can't work with.
void check_gpu_kv(const PfKvShape& shape, int32_t activations);
size_t gpu_kv_element_bytes(const PfKvShape& shape);

// Whether there is a kernel for prompts, ops/attention/gpu/prefill.h; else one kernel does everything.
bool has_prefill(int32_t activations, int32_t kv_dtype);

}  // namespace pf::gpu
