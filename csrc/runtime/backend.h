// The versioned C interface between the pageform runtime and a backend (cpu, cuda, hip, simt).
//
// A backend is a shared library that exports `pf_backend_get(abi)`. The runtime owns programs, buffer planning and
// scheduling of steps; the backend owns kernels, threads or streams, packed weights and device memory. Kernels see
// pointers, shapes and strides only. Nothing here depends on Python or torch, and nothing throws across it: functions
// return 0 on success, and `last_error()` (thread-local) holds the message otherwise.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PF_BACKEND_ABI 5u
#define PF_MAX_INPUTS 4
#define PF_MAX_OUTPUTS 2
#define PF_MAX_INTS 8
#define PF_MAX_FLOATS 4

// Element types of activations and of the KV cache. The last three are of caches only. PF_I8: int8 codes with float32
// scales, for values one a token and head; for keys one for 32 channels of these on a CPU, one a token and head on a
// GPU. PF_E4M3: 8-bit floats. PF_I16: int16 codes with scales as of PF_I8, which are powers of two: the largest
// magnitude that shares one becomes at least 2^12 (of values: 2^11), and at most twice that.
typedef enum PfDType { PF_F32 = 0, PF_F16 = 1, PF_BF16 = 2, PF_I8 = 3, PF_E4M3 = 4, PF_I16 = 5 } PfDType;

// Storage formats of a weight matrix as found in a file; row-major [rows][cols], blocks along cols.
typedef enum PfFormat {
  PF_FMT_F32 = 0,
  PF_FMT_F16 = 1,
  PF_FMT_BF16 = 2,
  PF_FMT_Q8_0 = 3,
  PF_FMT_Q4_0 = 4,
  PF_FMT_Q4_1 = 5,
  PF_FMT_Q4_K = 6,
  PF_FMT_Q6_K = 7,
} PfFormat;

// A row-major 2-D view: element (r, c) is data[r * stride + c].
typedef struct PfTensor {
  void* data;
  int64_t rows, cols, stride;
  int32_t dtype;  // PfDType
} PfTensor;

// One run of rows of a matrix in a file. A weight is the concatenation of its parts along rows (N): q, k, v are one
// weight, gate and up are one. Parts may differ in format. `data` stays valid only during the pack call.
typedef struct PfWeightPart {
  const void* data;
  size_t bytes;
  int64_t rows, cols;
  int32_t format;  // PfFormat
} PfWeightPart;

typedef struct PfWeight PfWeight;  // packed, opaque: the backend's own layout
typedef struct PfDevice PfDevice;  // threads or streams, memory
typedef struct PfKvCache PfKvCache;

// A bound operation: `op` is the backend's handle for the op's name (see find_op). The meaning of inputs, ints and
// floats of each op is written in python/pageform/ops/table.py and csrc/ops/<family>/<family>.h.
typedef struct PfCall {
  int32_t op;
  int32_t num_inputs, num_outputs;
  PfTensor in[PF_MAX_INPUTS];
  PfTensor out[PF_MAX_OUTPUTS];
  const PfWeight* weight;  // matrix of embed and linear, or null
  const float* vector;     // norm weight, bias or frequencies, or null
  int64_t vector_len;
  int64_t ints[PF_MAX_INTS];
  double floats[PF_MAX_FLOATS];
} PfCall;

// How the rows of logits of one step are sampled. Arrays are [num_rows] unless a shape is given. Order of processing
// (as in vLLM V1): raw logprobs · grammar/allowed mask · bias (bad words and min_tokens arrive as -inf) · penalties ·
// greedy, or temperature · min_p · top_k · top_p · Gumbel-argmax with counter-based noise.
typedef struct PfSampling {
  const float* temperature;     // 0 = greedy
  const float* top_p;           // 1 = off
  const float* min_p;           // 0 = off
  const int32_t* top_k;         // 0 = off
  const float* repetition;      // 1 = off
  const float* presence;        // 0 = off
  const float* frequency;       // 0 = off
  const uint64_t* seed;         // noise is a function of (seed, stream, position, token id) only
  const uint32_t* stream;       // sample index and attempt of the row, mixed by the caller
  const uint32_t* position;     // index of the token to be sampled in the request's output
  const int32_t* num_logprobs;  // -1 none, 0 the chosen token only, k also the k most likely
  const int32_t* target;        // -1 sample; otherwise score this token instead of sampling (prompt logprobs)
  const uint8_t* defer;         // 1: do not sample, only copy logits to logits_out (a Python processor goes first)
  const int32_t* mask_row;      // -1 none, else row of `masks`
  const uint32_t* masks;        // [num_masks][ceil(vocab/32)], bit 1 = allowed
  const int32_t* bias_start;    // [num_rows + 1] into bias_*
  const int32_t* bias_tokens;
  const float* bias_values;
  const int32_t* count_start;  // [num_rows + 1] into count_*: tokens seen in prompt or output, each once
  const int32_t* count_tokens;
  const int32_t* count_values;  // occurrences in the output; 0 = in the prompt only
  int32_t num_masks;
  int32_t max_logprobs;  // width of top_ids / top_logprobs
  int32_t vocab;         // columns that are real tokens (logits may be padded)
  const uint8_t* weigh;  // 1: also the mass that the row's mask allows (see csrc/ops/sample/sample.h); may be null
} PfSampling;

typedef enum PfRowStatus { PF_ROW_OK = 0, PF_ROW_NONFINITE = 1, PF_ROW_MASK_EMPTY = 2 } PfRowStatus;

typedef struct PfSampled {
  int32_t* ids;             // [num_rows] sampled or scored token; -1 where status != OK or deferred
  float* logprobs;          // [num_rows] raw log-probability of ids
  int32_t* ranks;           // [num_rows] 1-based rank of ids among raw logits (only where num_logprobs >= 0)
  int32_t* top_ids;         // [num_rows][max_logprobs]
  float* top_logprobs;      // [num_rows][max_logprobs]
  uint8_t* status;          // [num_rows] PfRowStatus
  float* logits_out;        // [num_rows][vocab] raw logits where defer is set (or all when copy_logits), may be null
  float* log_allowed;       // [num_rows] log of the raw probability mass that the mask allows, where weigh is set
  float* allowed_logprobs;  // [num_rows] log-probability of ids among what the mask allows, where weigh is set
} PfSampled;

// The program of a step: a number that no other program of this process has or had, and the sizes of its largest step.
// The calls of its steps differ in their rows only, so a backend may keep what it prepared for them (launch graphs,
// memory) until release_program.
typedef struct PfProgram {
  uint64_t id;
  int32_t max_tokens, max_seqs, max_rows;
} PfProgram;

// Everything dynamic of a step, at fixed addresses for its duration. T tokens, S sequences, R rows of logits.
typedef struct PfStep {
  int32_t num_tokens, num_seqs, num_rows;
  const int32_t* token_ids;    // [T]
  const int32_t* positions;    // [T]
  const int32_t* slots;        // [T] cache slot: block * block_size + offset
  const int32_t* query_start;  // [S + 1] first token of each sequence
  const int32_t* seq_lens;     // [S] context length including this step's tokens
  const int32_t* prompt_lens;  // [S] positions below are its prompt's, the others were generated; null: no position is
                               // the prompt's. A backend may compute the two by different kernels: which one depends on
                               // nothing else, so that a position has the same bits however steps are cut
  const int32_t* block_tables;  // [S][max_blocks]
  int32_t max_blocks;
  const int32_t* logits_rows;  // [R] token index whose hidden state becomes logits row r
  int32_t num_copies;          // cache blocks copied before the first op (copy on write)
  const int32_t* copy_src;
  const int32_t* copy_dst;
  PfSampling sampling;
  PfSampled sampled;
  int32_t copy_logits;            // 1: copy all rows' raw logits to sampled.logits_out
  int (*wait_masks)(void* ctx);   // called once before masks are read; non-zero fails the step; may be null
  int (*masks_ready)(void* ctx);  // whether wait_masks would return at once; null: always
  void* wait_ctx;
  PfKvCache* kv;
  const PfProgram* program;
} PfStep;

typedef struct PfKvShape {
  int32_t num_layers, kv_heads, head_dim, block_size, num_blocks;
  int32_t dtype;  // PfDType
} PfKvShape;

// Moves bytes [offset, offset + bytes) of a packed weight between memory and where the caller keeps it; offset is a
// multiple of 16. Called from several threads at once. Anything but 0 fails the call that it was given to.
typedef int (*PfRead)(void* ctx, void* to, size_t offset, size_t bytes);
typedef int (*PfWrite)(void* ctx, const void* from, size_t offset, size_t bytes);

typedef struct PfDeviceConfig {
  int32_t num_threads;   // 0 = all usable cores
  const char* isa;       // "auto", "generic", "avx2", "avxvnni", "avx512", "avx512vnni"
  const int32_t* cores;  // [num_cores] processors that threads are pinned to, thread i to core i; null: none is
  int32_t num_cores;     // 0 or the number of threads
  int32_t index;         // which of several devices
  int32_t activations;   // PfDType of the buffers of its programs that are not PF_F32, and of dense weights: PF_F32,
                         // PF_F16 or PF_BF16
} PfDeviceConfig;

typedef struct PfBackend {
  uint32_t abi;
  uint32_t size;  // sizeof(PfBackend), so that fields may be appended
  const char* name;
  const char* (*last_error)(void);

  int (*device_create)(const PfDeviceConfig* config, PfDevice** out);
  void (*device_destroy)(PfDevice* device);
  const char* (*device_describe)(PfDevice* device);  // for example "cpu avx2 2 threads"
  int (*device_threads)(PfDevice* device);

  int (*alloc)(PfDevice* device, size_t bytes, void** out);  // 64-byte aligned or better, zeroed
  void (*free)(PfDevice* device, void* p, size_t bytes);

  // Packs parts (all with the same cols) into the backend's layout. bytes_of tells the packed size.
  int (*weight_pack)(PfDevice* device, const PfWeightPart* parts, int32_t num_parts, PfWeight** out);
  void (*weight_destroy)(PfDevice* device, PfWeight* weight);
  size_t (*weight_bytes)(const PfWeight* weight);
  int (*weight_dequantize)(PfDevice* device, const PfWeight* weight, int64_t row, int64_t rows, float* out);

  int (*kv_create)(PfDevice* device, const PfKvShape* shape, PfKvCache** out);
  void (*kv_destroy)(PfDevice* device, PfKvCache* kv);
  size_t (*kv_block_bytes)(const PfKvShape* shape);

  int32_t (*find_op)(const char* name);  // -1 when the backend lacks it
  // Runs a bound program: one call a step. Blocks until done.
  int (*execute)(PfDevice* device, const PfCall* calls, int32_t num_calls, const PfStep* step);

  // Between the host's memory and what alloc gave; done when they return. Null: alloc gives memory of the host.
  int (*copy_in)(PfDevice* device, void* to, const void* from, size_t bytes);
  int (*copy_out)(PfDevice* device, void* to, const void* from, size_t bytes);
  // The program runs no more. May be null.
  void (*release_program)(PfDevice* device, uint64_t program);

  // Packed weights as bytes, for a cache on disk. All three are null where a backend has none. `packed_layout` names
  // the layout of all weights: another name, other bytes. weight_restore makes of the bytes that weight_save wrote what
  // weight_pack made of `parts`, whose data is null here; the bytes must be the very ones. It may be called from
  // several threads at once.
  const char* packed_layout;
  int (*weight_save)(PfDevice* device, const PfWeight* weight, PfWrite write, void* ctx);
  int (*weight_restore)(PfDevice* device, const PfWeightPart* parts, int32_t num_parts, PfRead read, void* ctx,
                        PfWeight** out);

  // Bytes of the device's memory: how many could be allocated now, and how many there are. Null: it is the host's.
  int (*memory)(PfDevice* device, size_t* free, size_t* total);
} PfBackend;

// The one exported symbol. Returns null when `abi` is not supported.
const PfBackend* pf_backend_get(uint32_t abi);

#ifdef __cplusplus
}
#endif
