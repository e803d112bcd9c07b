// The GPU kernels one by one behind C functions, for benchmarks/gpu_kernels: one source for CUDA, HIP and the emulator.
// Activations are bf16. Each function launches and returns 0, or 1 with a message in pf_kernels_error(); pointers are
// the device's unless it says otherwise, and matrices are dense.
#include <memory>

#include "gpu/runtime.h"
#include "ops/activation/gpu/activation.h"
#include "ops/attention/gpu/attention.h"
#include "ops/attention/gpu/blocks.h"
#include "ops/attention/gpu/mrope.h"
#include "ops/attention/gpu/prefill.h"
#include "ops/linear/gpu/embed.h"
#include "ops/linear/gpu/linear.h"
#include "ops/linear/gpu/quantize.h"
#include "ops/lora/gpu/lora.h"
#include "ops/moe/gpu/moe.h"
#include "ops/norm/gpu/layer_norm.h"
#include "ops/norm/gpu/norm.h"
#include "ops/norm/gpu/norm_quantize.h"
#include "ops/sample/gpu/sample.h"
#include "runtime/guarded.h"

#define PF_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace pf::gpu;

constexpr float kEpsilon = 1e-5f;

struct Bench {
  explicit Bench(int index) : runtime(index), stream(runtime.create_stream()), about(runtime.describe()) {}
  Runtime runtime;
  Stream stream;
  std::string about;
};

struct Cache {
  void *k, *v;
  float *k_scales, *v_scales;  // of int8 alone
  int block_size, kv_heads, head_dim;
};

template <class C>
KvLayer<C> layer(const Cache& cache) {
  return {.k = static_cast<C*>(cache.k),
          .v = static_cast<C*>(cache.v),
          .block_size = cache.block_size,
          .kv_heads = cache.kv_heads,
          .head_dim = cache.head_dim,
          .k_scales = cache.k_scales,
          .v_scales = cache.v_scales};
}

// Calls fn with a value of the element type that `cache` is named by: "bf16", "e4m3" or "int8".
template <class Fn>
void with_cache(const std::string& type, Fn&& fn) {
  if (type == "bf16") return fn(bf16{});
  if (type == "e4m3") return fn(e4m3{});
  if (type == "int8") return fn(int8_t{});
  throw std::invalid_argument("no cache of " + type);
}

WeightLayout layout_of(const std::string& type, int group) {
  if (type == "bf16") return {};
  const WeightFormat format = type == "int4"   ? WeightFormat::kInt4
                              : type == "int8" ? WeightFormat::kInt8
                              : type == "e4m3" ? WeightFormat::kE4m3
                                               : WeightFormat::kPlain;
  if (format == WeightFormat::kPlain) throw std::invalid_argument("no weights of " + type);
  return {.format = format, .group = group};
}

GemmWeight weight_of(const void* data, const char* type, int group, int64_t n, int64_t k) {
  return {.data = data, .n = n, .k = k, .stride = k, .layout = layout_of(type, group)};
}

}  // namespace

PF_EXPORT const char* pf_kernels_error() { return pf::last_error(); }

PF_EXPORT int pf_kernels_open(int index, Bench** out) {
  return pf::guarded([&] { *out = std::make_unique<Bench>(index).release(); });
}
PF_EXPORT void pf_kernels_close(Bench* bench) { delete bench; }
PF_EXPORT const char* pf_kernels_describe(const Bench* bench) { return bench->about.c_str(); }
PF_EXPORT void* pf_kernels_stream(const Bench* bench) { return bench->stream; }
PF_EXPORT int pf_kernels_have_mma() { return GPU_HAS_MMA; }
PF_EXPORT int pf_kernels_have_fp8_mma() {
#if GPU_HAS_MMA
  return has_fp8_mma();
#else
  return 0;
#endif
}
PF_EXPORT int pf_kernels_synchronize(Bench* bench) {
  return pf::guarded([&] { bench->runtime.synchronize(bench->stream); });
}

// Memory of the device, for hosts that have none of their own.
PF_EXPORT int pf_kernels_allocate(Bench* bench, int64_t bytes, void** out) {
  return pf::guarded([&] { *out = bench->runtime.allocate(static_cast<size_t>(bytes), "a tensor"); });
}
PF_EXPORT int pf_kernels_release(Bench* bench, void* memory) {
  return pf::guarded([&] { bench->runtime.release(memory); });
}
PF_EXPORT int pf_kernels_copy_in(Bench* bench, void* device, const void* host, int64_t bytes) {
  return pf::guarded([&] { bench->runtime.copy_in(device, host, static_cast<size_t>(bytes), bench->stream); });
}
PF_EXPORT int pf_kernels_copy_out(Bench* bench, void* host, const void* device, int64_t bytes) {
  return pf::guarded([&] { bench->runtime.copy_out(host, device, static_cast<size_t>(bytes), bench->stream); });
}

// --- rows ------------------------------------------------------------------------------------------------------------

PF_EXPORT int pf_embed(Bench* bench, const bf16* weight, int64_t vocab, const int32_t* ids, bf16* y, int64_t tokens,
                       int64_t cols) {
  return pf::guarded([&] { embed(weight, vocab, ids, y, cols, tokens, cols, 1.0f, bench->stream); });
}
// Of float, as packed embeddings are read today.
PF_EXPORT int pf_embed_packed(Bench* bench, const char* type, int group, const uint8_t* weight, int64_t vocab,
                              const int32_t* ids, float* y, int64_t tokens, int64_t cols) {
  return pf::guarded(
      [&] { embed_packed(weight, layout_of(type, group), vocab, ids, y, cols, tokens, cols, 1.0f, bench->stream); });
}
PF_EXPORT int pf_gather_rows(Bench* bench, const bf16* x, const int32_t* rows, bf16* y, int64_t count, int64_t cols) {
  return pf::guarded([&] { gather_rows(x, cols, rows, y, cols, count, cols, bench->stream); });
}
PF_EXPORT int pf_add(Bench* bench, const bf16* a, const bf16* b, bf16* y, int64_t rows, int64_t cols) {
  return pf::guarded([&] { add(a, cols, b, cols, y, cols, rows, cols, bench->stream); });
}
PF_EXPORT int pf_silu_mul(Bench* bench, const bf16* x, bf16* y, int64_t rows, int64_t cols) {
  return pf::guarded([&] { silu_mul(x, 2 * cols, y, cols, rows, cols, bench->stream); });
}
PF_EXPORT int pf_gelu(Bench* bench, const bf16* x, bf16* y, int64_t rows, int64_t cols) {
  return pf::guarded([&] { gelu(x, cols, y, cols, rows, cols, Gelu::kTanh, false, bench->stream); });
}
PF_EXPORT int pf_rms_norm(Bench* bench, const bf16* a, const bf16* b, const float* weight, bf16* sum, bf16* y,
                          int64_t rows, int64_t width) {
  return pf::guarded([&] {
    rms_norm(RmsNormArgs<bf16>{a, b, weight, sum, y, rows, 1, width, width, width, width, width, kEpsilon},
             bench->stream);
  });
}
PF_EXPORT int pf_layer_norm(Bench* bench, const bf16* a, const bf16* b, const float* weight, const float* bias,
                            bf16* sum, bf16* y, int64_t rows, int64_t width) {
  return pf::guarded([&] {
    layer_norm(LayerNormArgs<bf16>{a, b, weight, bias, sum, y, rows, width, width, width, width, width, kEpsilon},
               bench->stream);
  });
}
PF_EXPORT int pf_norm_quantize(Bench* bench, const char* type, const bf16* a, const bf16* b, const float* weight,
                               bf16* sum, void* q, float* scales, int64_t rows, int64_t width) {
  return pf::guarded([&] {
    const auto run = [&]<class Q>(Q*) {
      rms_norm_quantize(NormQuantizeArgs<bf16, Q>{a, b, weight, sum, static_cast<Q*>(q), scales, rows, width, 0, width,
                                                  width, width, kEpsilon},
                        bench->stream);
    };
    if (std::string(type) == "e4m3") return run(static_cast<e4m3*>(nullptr));
    run(static_cast<int8_t*>(nullptr));
  });
}
PF_EXPORT int pf_quantize_rows(Bench* bench, const bf16* x, e4m3* y, float* scale, int64_t rows, int64_t cols) {
  return pf::guarded([&] { quantize_rows(QuantizeArgs<bf16>{x, y, scale, rows, cols, cols, cols}, bench->stream); });
}

// --- attention -------------------------------------------------------------------------------------------------------

PF_EXPORT int pf_rope_cache(Bench* bench, const char* type, const bf16* q, const bf16* k, const bf16* v,
                            const float* cs, const int32_t* slots, bf16* q_out, const Cache* cache, int tokens,
                            int heads) {
  return pf::guarded([&] {
    with_cache(type, [&]<class C>(C) {
      const int64_t width = cache->head_dim, kv_width = width * cache->kv_heads;
      rope_cache(RopeCacheArgs<bf16, C>{q, k, v, cs, slots, q_out, layer<C>(*cache), heads * width, kv_width, kv_width,
                                        width, heads * width, tokens, heads, cache->head_dim, false},
                 bench->stream);
    });
  });
}
PF_EXPORT int pf_rope_angles(Bench* bench, const int32_t* positions, const float* inv_freq, float* cs, int64_t tokens,
                             int64_t half) {
  return pf::guarded([&] { rope_angles(positions, inv_freq, cs, 2 * half, tokens, half, 1.0, bench->stream); });
}
// Time has what height and width leave of the pairs.
PF_EXPORT int pf_mrope_angles(Bench* bench, const int32_t* positions, const float* inv_freq, float* cs, int64_t tokens,
                              int half, int height, int width) {
  return pf::guarded([&] {
    mrope_angles(
        MropeArgs{positions, inv_freq, cs, 2 * half, tokens, half, {half - height - width, height, width}, false, 1.0},
        bench->stream);
  });
}
PF_EXPORT int pf_extend_tables(Bench* bench, uint32_t* free, int32_t* refs, int32_t* tables, int32_t* lens,
                               const int32_t* query_start, int32_t* slots, int32_t* granted, int32_t* copy_from,
                               int32_t* copy_to, int32_t* scratch, int num_blocks, int block_size, int seqs,
                               int max_blocks, int tokens) {
  return pf::guarded([&] {
    extend_tables(ExtendArgs{{free, refs, num_blocks, block_size},
                             {tables, lens, seqs, max_blocks},
                             query_start,
                             slots,
                             granted,
                             copy_from,
                             copy_to,
                             scratch,
                             tokens},
                  bench->stream);
  });
}
PF_EXPORT int pf_copy_blocks(Bench* bench, const Cache* cache, const int32_t* from, const int32_t* to, int count) {
  return pf::guarded([&] { copy_blocks(layer<bf16>(*cache), from, layer<bf16>(*cache), to, count, bench->stream); });
}
PF_EXPORT int64_t pf_attention_partials(int64_t tokens, int64_t heads, int64_t head_dim, int64_t max_len) {
  return static_cast<int64_t>(attention_partials(tokens, heads, head_dim, max_len));
}
PF_EXPORT int pf_attention(Bench* bench, const char* type, const bf16* q, bf16* out, const Cache* cache,
                           const int32_t* query_start, const int32_t* seq_lens, const int32_t* block_tables,
                           float* partials, int tokens, int seqs, int heads, int max_blocks, int max_len, float scale) {
  return pf::guarded([&] {
    with_cache(type, [&]<class C>(C) {
      const int64_t width = static_cast<int64_t>(heads) * cache->head_dim;
      AttentionArgs<bf16, C> args{};
      args.q = q, args.out = out, args.cache = layer<C>(*cache), args.q_stride = args.out_stride = width;
      args.query_start = query_start, args.seq_lens = seq_lens, args.block_tables = block_tables;
      args.partials = partials, args.tokens = tokens, args.seqs = seqs, args.heads = heads;
      args.max_blocks = max_blocks, args.max_len = max_len, args.scale = scale;
      attention(args, bench->stream);
    });
  });
}
PF_EXPORT int pf_prefill(Bench* bench, const char* type, const bf16* q, bf16* out, const Cache* cache,
                         const int32_t* query_start, const int32_t* seq_lens, const int32_t* block_tables, int tokens,
                         int seqs, int heads, int max_blocks, float scale) {
  return pf::guarded([&] {
#if GPU_HAS_MMA
    const auto run = [&]<class C>(C*) {
      const int64_t width = static_cast<int64_t>(heads) * cache->head_dim;
      PrefillArgs<bf16, C> args{};
      args.q = q, args.out = out, args.cache = layer<C>(*cache), args.q_stride = args.out_stride = width;
      args.query_start = query_start, args.seq_lens = seq_lens, args.block_tables = block_tables;
      args.tokens = tokens, args.seqs = seqs, args.heads = heads, args.max_blocks = max_blocks, args.scale = scale;
      prefill_attention(args, bench->stream);
    };
    if (std::string(type) == "e4m3") return run(static_cast<e4m3*>(nullptr));
    run(static_cast<bf16*>(nullptr));
#else
    static_cast<void>(bench), static_cast<void>(type), static_cast<void>(q), static_cast<void>(out);
    static_cast<void>(cache), static_cast<void>(query_start), static_cast<void>(seq_lens);
    static_cast<void>(block_tables), static_cast<void>(tokens), static_cast<void>(seqs), static_cast<void>(heads);
    static_cast<void>(max_blocks), static_cast<void>(scale);
    throw std::invalid_argument("prefill needs tensor cores");
#endif
  });
}

// --- matrices --------------------------------------------------------------------------------------------------------

// All on the host: codes [n][k] and f16 scales [n][k / group] become pf_packed_bytes() bytes.
PF_EXPORT int64_t pf_packed_bytes(const char* type, int group, int64_t n, int64_t k) {
  return static_cast<int64_t>(packed_bytes(layout_of(type, group), n, k));
}
PF_EXPORT int pf_pack(const char* type, int group, const uint8_t* codes, const f16* scales, int64_t n, int64_t k,
                      uint8_t* packed) {
  return pf::guarded([&] {
    QuantizedMatrix matrix;
    matrix.n = n, matrix.k = k;
    matrix.codes.assign(codes, codes + n * k);
    if (group > 0) matrix.scales.assign(scales, scales + n * (k / group));
    const std::vector<uint8_t> bytes = pack_weight(matrix, layout_of(type, group));
    memcpy(packed, bytes.data(), bytes.size());
  });
}

PF_EXPORT int pf_linear(Bench* bench, const char* type, int group, const bf16* x, const void* weight, bf16* y,
                        int64_t rows, int64_t n, int64_t k) {
  return pf::guarded([&] {
    LinearArgs<bf16> args;
    args.x = x, args.y = y, args.rows = rows, args.x_stride = k, args.y_stride = n;
    args.weight = weight_of(weight, type, group, n, k);
    linear(args, bench->stream);
  });
}
// Activations and weights of 8 bits, with a scale a row of x and one a row of the weight.
PF_EXPORT int pf_linear_8bit(Bench* bench, const char* type, const void* x, const float* x_scale, const void* weight,
                             const float* column_scale, bf16* y, int64_t rows, int64_t n, int64_t k) {
  return pf::guarded([&] {
    const auto run = [&]<class T>(const T* data) {
      LinearArgs<T> args;
      args.x = data, args.y = y, args.rows = rows, args.x_stride = k, args.y_stride = n, args.x_scale = x_scale;
      args.weight = weight_of(weight, "bf16", 0, n, k);
      args.weight.column_scale = column_scale;
      linear(args, bench->stream);
    };
    if (std::string(type) == "e4m3") return run(static_cast<const e4m3*>(x));
    run(static_cast<const int8_t*>(x));
  });
}
PF_EXPORT int pf_lora(Bench* bench, const bf16* x, bf16* y, const bf16* a, const bf16* b, const int32_t* ranks,
                      const float* scales, const int32_t* seg_start, const int32_t* seg_slots, float* h, int64_t k,
                      int64_t n, int rows, int segments, int max_rank) {
  return pf::guarded([&] {
    lora(LoraArgs<bf16>{x, y, a, b, ranks, scales, seg_start, seg_slots, h, k, n, k, n, rows, segments, max_rank},
         bench->stream);
  });
}

// --- mixtures of experts ---------------------------------------------------------------------------------------------

PF_EXPORT int pf_moe_route(Bench* bench, const bf16* logits, int32_t* ids, float* weights, int64_t tokens, int experts,
                           int top_k) {
  return pf::guarded([&] {
    moe_route(RouteArgs<bf16>{logits, nullptr, ids, weights, experts, tokens, experts, top_k, false, true, 1.0f},
              bench->stream);
  });
}
PF_EXPORT int64_t pf_moe_scratch(int64_t tokens, int top_k, int experts, int64_t hidden, int64_t inner) {
  return static_cast<int64_t>(moe_scratch<bf16>(tokens, top_k, experts, hidden, inner));
}
PF_EXPORT int pf_moe(Bench* bench, const char* type, int group, const bf16* x, const int32_t* ids, const float* weights,
                     const void* gate_up, const void* down, bf16* y, void* scratch, int64_t tokens, int experts,
                     int top_k, int64_t hidden, int64_t inner) {
  return pf::guarded([&] {
    MoeArgs<bf16> args{};
    args.x = x, args.ids = ids, args.weights = weights, args.y = y, args.scratch = scratch;
    args.gate_up = weight_of(gate_up, type, group, 2 * inner, hidden);
    args.down = weight_of(down, type, group, hidden, inner);
    args.x_stride = args.y_stride = hidden, args.tokens = tokens, args.experts = experts, args.top_k = top_k;
    moe(args, bench->stream);
  });
}

// --- sampling --------------------------------------------------------------------------------------------------------

PF_EXPORT int pf_sample(Bench* bench, const float* logits, float* scratch, const PfSampling* sampling,
                        const PfSampled* sampled, int rows) {
  return pf::guarded(
      [&] { sample(SampleArgs{logits, sampling->vocab, rows, false, *sampling, *sampled, scratch}, bench->stream); });
}
