// The GPU kernels one by one behind C functions, for benchmarks/gpu_kernels: one source for CUDA, HIP and the emulator.
// `type` names that of activations: "bf16", "f16" or "f32". Each function launches and returns 0, or 1 with a message
// in pf_kernels_error(); pointers are the device's unless it says otherwise, and matrices are dense.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpu/runtime.h"
#include "ops/activation/gpu/activation.h"
#include "ops/attention/gpu/attention.h"
#include "ops/attention/gpu/blocks.h"
#include "ops/attention/gpu/mrope.h"
#include "ops/attention/gpu/prefill.h"
#include "ops/comm/gpu/all_reduce.h"
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
  ~Bench() { forget(); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // On the device: first, first + step, ... Made anew only when they change, so that launches can be timed.
  void* const* addresses(void* first, int64_t step, int count) {
    std::vector<void*> wanted;
    for (int i = 0; i < count; ++i) wanted.push_back(static_cast<char*>(first) + i * step);
    if (wanted != listed) {
      runtime.synchronize(stream);
      forget();
      pointers = runtime.allocate(wanted.size() * sizeof(void*), "addresses");
      listed = std::move(wanted);
      runtime.copy_in(pointers, listed.data(), listed.size() * sizeof(void*), stream);
      runtime.synchronize(stream);
    }
    return static_cast<void* const*>(pointers);
  }

  Runtime runtime;
  Stream stream;
  std::string about;

 private:
  void forget() {
    if (pointers != nullptr) runtime.release(pointers);
    pointers = nullptr;
  }
  void* pointers = nullptr;
  std::vector<void*> listed;
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

// Calls fn with a value of the type of activations.
template <class Fn>
void with_type(const std::string& type, Fn&& fn) {
  if (type == "bf16") return fn(bf16{});
  if (type == "f16") return fn(f16{});
  if (type == "f32") return fn(float{});
  throw std::invalid_argument("no activations of " + type);
}

// Calls fn with values of the types of activations and of the cache's elements.
template <class Fn>
void with_types(const std::string& type, const std::string& cache, Fn&& fn) {
  const std::string both = type + " " + cache;
  if (both == "bf16 bf16") return fn(bf16{}, bf16{});
  if (both == "bf16 e4m3") return fn(bf16{}, e4m3{});
  if (both == "bf16 int8") return fn(bf16{}, int8_t{});
  if (both == "f16 f16") return fn(f16{}, f16{});
  if (both == "f32 f32") return fn(float{}, float{});
  if (both == "f32 f16") return fn(float{}, f16{});
  if (both == "f32 int8") return fn(float{}, int8_t{});
  throw std::invalid_argument("no cache of " + cache + " beside activations of " + type);
}

// A pointer of the host's as one to numbers of the same type as `like`.
template <class T>
const T* numbers(T, const void* data) {
  return static_cast<const T*>(data);
}
template <class T>
T* numbers(T, void* data) {
  return static_cast<T*>(data);
}

WeightLayout layout_of(const std::string& type, int group) {
  if (type == "bf16" || type == "f16" || type == "f32") return {};  // that of the activations
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

PF_EXPORT int pf_embed(Bench* bench, const char* type, const void* weight, int64_t vocab, const int32_t* ids, void* y,
                       int64_t tokens, int64_t cols) {
  return pf::guarded([&] {
    with_type(type, [&](auto t) {
      embed(numbers(t, weight), vocab, ids, numbers(t, y), cols, tokens, cols, 1.0f, bench->stream);
    });
  });
}
PF_EXPORT int pf_embed_packed(Bench* bench, const char* type, const char* weights, int group, const uint8_t* weight,
                              int64_t vocab, const int32_t* ids, void* y, int64_t tokens, int64_t cols) {
  return pf::guarded([&] {
    with_type(type, [&](auto t) {
      embed_packed(weight, layout_of(weights, group), vocab, ids, numbers(t, y), cols, tokens, cols, 1.0f,
                   bench->stream);
    });
  });
}
PF_EXPORT int pf_gather_rows(Bench* bench, const char* type, const void* x, const int32_t* rows, void* y, int64_t count,
                             int64_t cols) {
  return pf::guarded([&] {
    with_type(type,
              [&](auto t) { gather_rows(numbers(t, x), cols, rows, numbers(t, y), cols, count, cols, bench->stream); });
  });
}
PF_EXPORT int pf_add(Bench* bench, const char* type, const void* a, const void* b, void* y, int64_t rows,
                     int64_t cols) {
  return pf::guarded([&] {
    with_type(type, [&](auto t) {
      add(numbers(t, a), cols, numbers(t, b), cols, numbers(t, y), cols, rows, cols, bench->stream);
    });
  });
}
PF_EXPORT int pf_silu_mul(Bench* bench, const char* type, const void* x, void* y, int64_t rows, int64_t cols) {
  return pf::guarded([&] {
    with_type(type, [&](auto t) { silu_mul(numbers(t, x), 2 * cols, numbers(t, y), cols, rows, cols, bench->stream); });
  });
}
PF_EXPORT int pf_gelu(Bench* bench, const char* type, const void* x, void* y, int64_t rows, int64_t cols) {
  return pf::guarded([&] {
    with_type(type, [&](auto t) {
      gelu(numbers(t, x), cols, numbers(t, y), cols, rows, cols, Gelu::kTanh, false, bench->stream);
    });
  });
}
PF_EXPORT int pf_rms_norm(Bench* bench, const char* type, const void* a, const void* b, const float* weight, void* sum,
                          void* y, int64_t rows, int64_t width) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      rms_norm(RmsNormArgs<T>{numbers(t, a), numbers(t, b), weight, numbers(t, sum), numbers(t, y), rows, 1, width,
                              width, width, width, width, kEpsilon},
               bench->stream);
    });
  });
}
PF_EXPORT int pf_layer_norm(Bench* bench, const char* type, const void* a, const void* b, const float* weight,
                            const float* bias, void* sum, void* y, int64_t rows, int64_t width) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      layer_norm(LayerNormArgs<T>{numbers(t, a), numbers(t, b), weight, bias, numbers(t, sum), numbers(t, y), rows,
                                  width, width, width, width, width, kEpsilon},
                 bench->stream);
    });
  });
}
PF_EXPORT int pf_norm_quantize(Bench* bench, const char* type, const char* to, const void* a, const void* b,
                               const float* weight, void* sum, void* q, float* scales, int64_t rows, int64_t width) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      const auto run = [&]<class Q>(Q code) {
        rms_norm_quantize(
            NormQuantizeArgs<T, Q>{numbers(t, a), numbers(t, b), weight, numbers(t, sum), numbers(code, q), scales,
                                   rows, width, 0, width, width, width, kEpsilon},
            bench->stream);
      };
      if (std::string(to) == "int8") return run(int8_t{});
      if constexpr (sizeof(T) == 2) return run(e4m3{});
      throw std::invalid_argument(std::string("no norm of ") + type + " to " + to);
    });
  });
}
PF_EXPORT int pf_quantize_rows(Bench* bench, const char* type, const void* x, e4m3* y, float* scale, int64_t rows,
                               int64_t cols) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      if constexpr (sizeof(T) == 2) {
        quantize_rows(QuantizeArgs<T>{numbers(t, x), y, scale, rows, cols, cols, cols}, bench->stream);
      } else {
        throw std::invalid_argument("rows of f32 are not quantized");
      }
    });
  });
}

// --- attention -------------------------------------------------------------------------------------------------------

PF_EXPORT int pf_rope_cache(Bench* bench, const char* type, const char* cache_type, const void* q, const void* k,
                            const void* v, const float* cs, const int32_t* slots, void* q_out, const Cache* cache,
                            int tokens, int heads) {
  return pf::guarded([&] {
    with_types(type, cache_type, [&]<class T, class C>(T t, C) {
      const int64_t width = cache->head_dim, kv_width = width * cache->kv_heads;
      rope_cache(RopeCacheArgs<T, C>{numbers(t, q), numbers(t, k), numbers(t, v), cs, slots, numbers(t, q_out),
                                     layer<C>(*cache), heads * width, kv_width, kv_width, width, heads * width, tokens,
                                     heads, cache->head_dim, false},
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
PF_EXPORT int pf_copy_blocks(Bench* bench, const char* cache_type, const Cache* cache, const int32_t* from,
                             const int32_t* to, int count) {
  return pf::guarded([&] {
    const auto run = [&]<class C>(C) {
      copy_blocks(layer<C>(*cache), from, layer<C>(*cache), to, count, bench->stream);
    };
    if (std::string(cache_type) == "int8") return run(int8_t{});
    with_type(cache_type, run);
  });
}
PF_EXPORT int pf_fork_tables(Bench* bench, uint32_t* free, int32_t* refs, int32_t* tables, int32_t* lens,
                             const int32_t* parents, const int32_t* children, int num_blocks, int block_size, int seqs,
                             int max_blocks, int count) {
  return pf::guarded([&] {
    fork_tables({free, refs, num_blocks, block_size}, {tables, lens, seqs, max_blocks}, parents, children, count,
                bench->stream);
  });
}
// `layers`: the keys, then the values, of all layers, each [blocks][block_bytes].
PF_EXPORT int pf_transfer_blocks(Bench* bench, bool gather, void* layers, int64_t layer_bytes, const int32_t* blocks,
                                 void* buffer, int64_t block_bytes, int count, int num_layers) {
  return pf::guarded([&] {
    const TransferArgs args = {
        bench->addresses(layers, layer_bytes, 2 * num_layers), blocks, buffer, block_bytes, count, num_layers};
    if (gather) return gather_blocks(args, bench->stream);
    scatter_blocks(args, bench->stream);
  });
}
PF_EXPORT int64_t pf_attention_partials(int64_t tokens, int64_t heads, int64_t head_dim, int64_t max_len) {
  return static_cast<int64_t>(attention_partials(tokens, heads, head_dim, max_len));
}
PF_EXPORT int pf_attention(Bench* bench, const char* type, const char* cache_type, const void* q, void* out,
                           const Cache* cache, const int32_t* query_start, const int32_t* seq_lens,
                           const int32_t* block_tables, float* partials, int tokens, int seqs, int heads,
                           int max_blocks, int max_len, float scale) {
  return pf::guarded([&] {
    with_types(type, cache_type, [&]<class T, class C>(T t, C) {
      const int64_t width = static_cast<int64_t>(heads) * cache->head_dim;
      AttentionArgs<T, C> args{};
      args.q = numbers(t, q), args.out = numbers(t, out), args.cache = layer<C>(*cache);
      args.q_stride = args.out_stride = width;
      args.query_start = query_start, args.seq_lens = seq_lens, args.block_tables = block_tables;
      args.partials = partials, args.tokens = tokens, args.seqs = seqs, args.heads = heads;
      args.max_blocks = max_blocks, args.max_len = max_len, args.scale = scale;
      attention(args, bench->stream);
    });
  });
}
PF_EXPORT int pf_prefill(Bench* bench, const char* type, const char* cache_type, const void* q, void* out,
                         const Cache* cache, const int32_t* query_start, const int32_t* seq_lens,
                         const int32_t* block_tables, int tokens, int seqs, int heads, int max_blocks, float scale) {
  return pf::guarded([&] {
#if GPU_HAS_MMA
    with_types(type, cache_type, [&]<class T, class C>(T t, C) {
      if constexpr (sizeof(T) == 4) {
        throw std::invalid_argument("prefill computes in 16 bits");
      } else {
        const int64_t width = static_cast<int64_t>(heads) * cache->head_dim;
        PrefillArgs<T, C> args{};
        args.q = numbers(t, q), args.out = numbers(t, out), args.cache = layer<C>(*cache);
        args.q_stride = args.out_stride = width;
        args.query_start = query_start, args.seq_lens = seq_lens, args.block_tables = block_tables;
        args.tokens = tokens, args.seqs = seqs, args.heads = heads, args.max_blocks = max_blocks, args.scale = scale;
        prefill_attention(args, bench->stream);
      }
    });
#else
    static_cast<void>(bench), static_cast<void>(type), static_cast<void>(cache_type), static_cast<void>(q);
    static_cast<void>(out);
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

PF_EXPORT int pf_linear(Bench* bench, const char* type, const char* weights, int group, const void* x,
                        const void* weight, void* y, int64_t rows, int64_t n, int64_t k) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      LinearArgs<T> args;
      args.x = numbers(t, x), args.y = numbers(t, y), args.rows = rows, args.x_stride = k, args.y_stride = n;
      args.weight = weight_of(weight, weights, group, n, k);
      linear(args, bench->stream);
    });
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
PF_EXPORT int pf_lora(Bench* bench, const char* type, const void* x, void* y, const void* a, const void* b,
                      const int32_t* ranks, const float* scales, const int32_t* seg_start, const int32_t* seg_slots,
                      float* h, int64_t k, int64_t n, int rows, int segments, int max_rank) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      lora(LoraArgs<T>{numbers(t, x), numbers(t, y), numbers(t, a), numbers(t, b), ranks, scales, seg_start, seg_slots,
                       h, k, n, k, n, rows, segments, max_rank},
           bench->stream);
    });
  });
}

// --- mixtures of experts ---------------------------------------------------------------------------------------------

PF_EXPORT int pf_moe_route(Bench* bench, const char* type, const void* logits, int32_t* ids, float* weights,
                           int64_t tokens, int experts, int top_k) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      moe_route(
          RouteArgs<T>{numbers(t, logits), nullptr, ids, weights, experts, tokens, experts, top_k, false, true, 1.0f},
          bench->stream);
    });
  });
}
PF_EXPORT int64_t pf_moe_scratch(const char* type, int64_t tokens, int top_k, int experts, int64_t hidden,
                                 int64_t inner) {
  size_t bytes = 0;
  with_type(type, [&]<class T>(T) { bytes = moe_scratch<T>(tokens, top_k, experts, hidden, inner); });
  return static_cast<int64_t>(bytes);
}
PF_EXPORT int pf_moe(Bench* bench, const char* type, const char* of_weights, int group, const void* x,
                     const int32_t* ids, const float* weights, const void* gate_up, const void* down, void* y,
                     void* scratch, int64_t tokens, int experts, int top_k, int64_t hidden, int64_t inner) {
  return pf::guarded([&] {
    with_type(type, [&]<class T>(T t) {
      MoeArgs<T> args{};
      args.x = numbers(t, x), args.ids = ids, args.weights = weights, args.y = numbers(t, y), args.scratch = scratch;
      args.gate_up = weight_of(gate_up, of_weights, group, 2 * inner, hidden);
      args.down = weight_of(down, of_weights, group, hidden, inner);
      args.x_stride = args.y_stride = hidden, args.tokens = tokens, args.experts = experts, args.top_k = top_k;
      moe(args, bench->stream);
    });
  });
}

// --- several ranks ---------------------------------------------------------------------------------------------------

PF_EXPORT int64_t pf_all_reduce_flags() { return kAllReduceFlags; }
// All ranks on one device, in one launch: in, out and scratch are [ranks][n], flags [ranks][pf_all_reduce_flags()].
PF_EXPORT int pf_all_reduce(Bench* bench, const char* type, bool two_shots, const void* in, void* out, void* scratch,
                            uint32_t* flags, int64_t n, int ranks) {
  return pf::guarded([&] {
    bench->runtime.run_blocks_together(bench->stream);
    with_type(type, [&]<class T>(T t) {
      AllReduceArgs<T> args{};
      for (int r = 0; r < ranks && r < kMaxRanks; ++r) {
        args.in[r] = numbers(t, in) + r * n, args.out[r] = numbers(t, out) + r * n;
        args.scratch[r] = numbers(t, scratch) + r * n, args.flags[r] = flags + int64_t{r} * kAllReduceFlags;
      }
      args.n = n, args.ranks = ranks;
      all_reduce(args, two_shots ? AllReduce::kTwoShot : AllReduce::kOneShot, bench->stream, ranks);
    });
  });
}

// --- sampling --------------------------------------------------------------------------------------------------------

PF_EXPORT int pf_sample(Bench* bench, const float* logits, float* scratch, const PfSampling* sampling,
                        const PfSampled* sampled, int rows) {
  return pf::guarded(
      [&] { sample(SampleArgs{logits, sampling->vocab, rows, false, *sampling, *sampled, scratch}, bench->stream); });
}
