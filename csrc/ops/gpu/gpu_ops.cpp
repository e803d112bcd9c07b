#include "gpu_ops.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "../../runtime/errors.h"
#include "../activation/gpu/activation.h"
#include "../attention/attention.h"
#include "../attention/gpu/attention.h"
#include "../attention/gpu/prefill.h"
#include "../linear/gpu/embed.h"
#include "../linear/gpu/linear.h"
#include "../norm/gpu/norm.h"
#include "../norm/norm.h"
#include "gpu_moe.h"

namespace pf::gpu {
namespace {

template <class T>
const T* input(const PfCall& call, int i) {
  return static_cast<const T*>(call.in[i].data);
}
template <class T>
T* output(const PfCall& call, int i) {
  return static_cast<T*>(call.out[i].data);
}
const GpuWeight& weight_of(const PfCall& call) { return *reinterpret_cast<const GpuWeight*>(call.weight); }

// Calls fn.template operator()<T>() with the type of a tensor's elements.
template <class Fn>
void with_type(const PfTensor& tensor, Fn&& fn) {
  if (tensor.dtype == PF_F16) return fn.template operator()<f16>();
  if (tensor.dtype == PF_BF16) return fn.template operator()<bf16>();
  fn.template operator()<float>();
}

void launch_embed(const PfCall& call, const GpuStep& step, Stream stream) {
  const GpuWeight& weight = weight_of(call);
  const int64_t stride = call.out[0].stride, tokens = call.out[0].rows;
  const auto scale = static_cast<float>(call.floats[0]);
  with_type(call.out[0], [&]<class T>() {
    T* const y = output<T>(call, 0);
    if (weight.is_plain()) {
      embed<T>(reinterpret_cast<const T*>(weight.data), weight.rows, step.token_ids, y, stride, tokens, weight.cols,
               scale, stream);
    } else {
      embed_packed<T>(reinterpret_cast<const uint8_t*>(weight.data), weight.layout, weight.rows, step.token_ids, y,
                      stride, tokens, weight.cols, scale, stream);
    }
  });
}

template <class T>
LinearArgs<T> linear_args(const PfCall& call) {
  const GpuWeight& weight = weight_of(call);
  LinearArgs<T> args;
  args.x = input<T>(call, 0);
  args.x_stride = call.in[0].stride;
  args.weight.data = weight.data;
  args.weight.layout = weight.layout;
  args.weight.n = weight.rows;
  args.weight.k = args.weight.stride = weight.cols;
  if (call.out[0].dtype == call.in[0].dtype) {
    args.y = output<T>(call, 0);
  } else {
    args.y_float = output<float>(call, 0);
  }
  args.y_stride = call.out[0].stride;
  args.rows = call.out[0].rows;
  args.bias = call.vector;
  return args;
}

void launch_linear(const PfCall& call, const GpuStep& step, Stream stream) {
  with_type(call.in[0], [&]<class T>() {
    const LinearArgs<T> args = linear_args<T>(call);
    if constexpr (sizeof(T) == 2) {
      if (step.gemm != nullptr && step.gemm->launch(args, stream)) return;
    }
    linear<T>(args, stream);
  });
}

template <class T>
void launch_norm(const PfCall& call, const T* b, int64_t b_stride, T* sum, int64_t sum_stride, const PfTensor& y,
                 Stream stream) {
  const NormParams params(call);
  RmsNormArgs<T> args{};
  args.a = input<T>(call, 0);
  args.a_stride = call.in[0].stride;
  args.b = b;
  args.b_stride = b_stride;
  args.sum = sum;
  args.sum_stride = sum_stride;
  args.weight = call.vector;
  args.y = static_cast<T*>(y.data);
  args.y_stride = y.stride;
  args.rows = y.rows;
  args.groups = params.groups;
  args.width = call.vector_len;
  args.eps = params.eps;
  rms_norm<T>(args, stream);
}

void launch_rms_norm(const PfCall& call, const GpuStep&, Stream stream) {
  with_type(call.in[0], [&]<class T>() { launch_norm<T>(call, nullptr, 0, nullptr, 0, call.out[0], stream); });
}

void launch_add_rms_norm(const PfCall& call, const GpuStep&, Stream stream) {
  with_type(call.in[0], [&]<class T>() {
    launch_norm<T>(call, input<T>(call, 1), call.in[1].stride, output<T>(call, 0), call.out[0].stride, call.out[1],
                   stream);
  });
}

void launch_add(const PfCall& call, const GpuStep&, Stream stream) {
  with_type(call.in[0], [&]<class T>() {
    add<T>(input<T>(call, 0), call.in[0].stride, input<T>(call, 1), call.in[1].stride, output<T>(call, 0),
           call.out[0].stride, call.out[0].rows, call.out[0].cols, stream);
  });
}

void launch_silu_mul(const PfCall& call, const GpuStep&, Stream stream) {
  with_type(call.in[0], [&]<class T>() {
    silu_mul<T>(input<T>(call, 0), call.in[0].stride, output<T>(call, 0), call.out[0].stride, call.out[0].rows,
                call.out[0].cols, stream);
  });
}

void launch_gather_rows(const PfCall& call, const GpuStep& step, Stream stream) {
  with_type(call.in[0], [&]<class T>() {
    gather_rows<T>(input<T>(call, 0), call.in[0].stride, step.logits_rows, output<T>(call, 0), call.out[0].stride,
                   call.out[0].rows, call.out[0].cols, stream);
  });
}

void launch_rope_angles(const PfCall& call, const GpuStep& step, Stream stream) {
  rope_angles(step.positions, call.vector, output<float>(call, 0), call.out[0].stride, call.out[0].rows,
              call.vector_len, call.floats[0], stream);
}

void launch_rope(const PfCall& call, const GpuStep& step, Stream stream) {
  const RopeParams params(call);
  with_type(call.in[0], [&]<class T>() {
    RopeCacheArgs<T, T> args{};
    args.q = input<T>(call, 0);
    args.q_stride = call.in[0].stride;
    args.cs = input<float>(call, 1);
    args.cs_stride = call.in[1].stride;
    args.slots = step.slots;
    args.q_out = output<T>(call, 0);
    args.q_out_stride = call.out[0].stride;
    args.cache.block_size = 1;
    args.cache.head_dim = static_cast<int>(params.head_dim);
    args.tokens = static_cast<int>(call.out[0].rows);
    args.heads = static_cast<int>(params.heads);
    args.rot_dim = static_cast<int>(params.rot_dim);
    args.interleaved = params.interleaved;
    rope_cache(args, stream);
  });
}

// Bytes of the codes of a layer's keys, or values; scales of an int8 cache follow.
size_t code_bytes(const PfKvShape& shape) {
  const size_t bytes = static_cast<size_t>(shape.num_blocks) * static_cast<size_t>(shape.kv_heads) *
                       static_cast<size_t>(shape.block_size) * static_cast<size_t>(shape.head_dim);
  return bytes * gpu_kv_element_bytes(shape);
}

template <class C>
KvLayer<C> layer_of(const GpuKvCache& kv, int64_t layer) {
  char* const k = kv.memory + static_cast<size_t>(2 * layer) * kv.layer_bytes;
  char* const v = k + kv.layer_bytes;
  KvLayer<C> of = {reinterpret_cast<C*>(k), reinterpret_cast<C*>(v), kv.shape.block_size, kv.shape.kv_heads,
                   kv.shape.head_dim};
  if constexpr (std::is_same_v<C, int8_t>) {
    of.k_scales = reinterpret_cast<float*>(k + code_bytes(kv.shape));
    of.v_scales = reinterpret_cast<float*>(v + code_bytes(kv.shape));
  }
  return of;
}

// Calls fn.template operator()<C>() with the type of the cache's elements.
template <class Fn>
void with_element(const GpuKvCache& kv, Fn&& fn) {
  switch (kv.shape.dtype) {
    case PF_F16:
      return fn.template operator()<f16>();
    case PF_BF16:
      return fn.template operator()<bf16>();
    case PF_I8:
      return fn.template operator()<int8_t>();
    case PF_E4M3:
      return fn.template operator()<e4m3>();
    case PF_F32:
      return fn.template operator()<float>();
    default:
      return;
  }
}

template <class T, class C>
constexpr bool kHasCache = false;  // whether there are kernels for such activations and such a cache
template <>
constexpr bool kHasCache<float, float> = true;
template <>
constexpr bool kHasCache<float, f16> = true;
template <>
constexpr bool kHasCache<float, int8_t> = true;
template <>
constexpr bool kHasCache<f16, f16> = true;
template <>
constexpr bool kHasCache<bf16, bf16> = true;
template <>
constexpr bool kHasCache<bf16, e4m3> = true;
template <>
constexpr bool kHasCache<bf16, int8_t> = true;

template <class T, class C>
constexpr bool kHasPrefill = GPU_HAS_MMA && kHasCache<T, C> && sizeof(T) == 2;

// Calls fn.template operator()<T, C>() with the types of activations and cache, which check_gpu_kv has accepted.
template <class Fn>
void with_types(const PfTensor& x, const GpuKvCache& kv, Fn&& fn) {
  with_type(x, [&]<class T>() {
    with_element(kv, [&]<class C>() {
      if constexpr (kHasCache<T, C>) fn.template operator()<T, C>();
    });
  });
}

void launch_cache_write(const PfCall& call, const GpuStep& step, Stream stream) {
  const CacheWriteParams params(call);
  with_types(call.in[0], *step.kv, [&]<class T, class C>() {
    RopeCacheArgs<T, C> args{};
    args.k = input<T>(call, 0);
    args.k_stride = call.in[0].stride;
    args.v = input<T>(call, 1);
    args.v_stride = call.in[1].stride;
    args.slots = step.slots;
    args.cache = layer_of<C>(*step.kv, params.layer);
    args.tokens = static_cast<int>(call.in[0].rows);
    rope_cache(args, stream);
  });
}

// Tokens that attention() computes.
int64_t decode_tokens(const PfCall& call, const GpuStep& step) {
  return step.prompt_ends != nullptr ? step.num_generated : call.out[0].rows;
}

size_t attention_scratch(const PfCall& call, const GpuStep& step) {
  const AttentionParams params(call);
  if (step.max_len <= kAttentionSplit) return 0;
  return attention_partials(decode_tokens(call, step), params.heads, params.head_dim, step.max_len);
}

// What both kinds of attention take.
template <class Args>
Args attention_args(const PfCall& call, const GpuStep& step, const AttentionParams& params) {
  Args args{};
  args.q = static_cast<decltype(args.q)>(call.in[0].data);
  args.q_stride = call.in[0].stride;
  args.out = static_cast<decltype(args.out)>(call.out[0].data);
  args.out_stride = call.out[0].stride;
  args.query_start = step.query_start;
  args.seq_lens = step.seq_lens;
  args.block_tables = step.block_tables;
  args.tokens = static_cast<int>(call.out[0].rows);
  args.seqs = step.seqs;
  args.heads = static_cast<int>(params.heads);
  args.max_blocks = step.max_blocks;
  args.window = static_cast<int>(params.window);
  args.scale = params.scale;
  args.softcap = params.softcap;
  return args;
}

void launch_attention(const PfCall& call, const GpuStep& step, Stream stream) {
  const AttentionParams params(call);
  with_types(call.in[0], *step.kv, [&]<class T, class C>() {
#if GPU_HAS_MMA
    if constexpr (kHasPrefill<T, C>) {
      if (step.prompt_ends != nullptr) {
        auto args = attention_args<PrefillArgs<T, C>>(call, step, params);
        args.cache = layer_of<C>(*step.kv, params.layer);
        args.query_ends = step.prompt_ends;
        prefill_attention(args, stream);
      }
    }
#endif
    auto args = attention_args<AttentionArgs<T, C>>(call, step, params);
    args.cache = layer_of<C>(*step.kv, params.layer);
    args.partials = step.partials;
    args.max_len = step.max_len;
    args.tokens = static_cast<int>(decode_tokens(call, step));
    args.rows = step.generated;
    attention(args, stream);
  });
}

constexpr GpuOp kOps[] = {
    {"embed", launch_embed, nullptr},
    {"rope_angles", launch_rope_angles, nullptr},
    {"rms_norm", launch_rms_norm, nullptr},
    {"add", launch_add, nullptr},
    {"add_rms_norm", launch_add_rms_norm, nullptr},
    {"linear", launch_linear, nullptr},
    {"rope", launch_rope, nullptr},
    {"cache_write", launch_cache_write, nullptr},
    {"attention", launch_attention, attention_scratch},
    {"silu_mul", launch_silu_mul, nullptr},
    {"gather_rows", launch_gather_rows, nullptr},
    {"moe_gate_up", launch_moe_gate_up, moe_gate_up_scratch},
    {"moe_down", launch_moe_down, moe_down_scratch},
    {"sample", nullptr, nullptr},
};

}  // namespace

const GpuOp& gpu_op(int32_t handle) { return kOps[handle]; }
int32_t num_gpu_ops() { return static_cast<int32_t>(std::size(kOps)); }

int32_t gpu_op_handle(const char* name) {
  for (int32_t i = 0; i < num_gpu_ops(); ++i) {
    if (std::strcmp(kOps[i].name, name) == 0) return i;
  }
  return -1;
}

void measure_gemm(const PfCall& call, LibraryGemm& gemm, int64_t most_rows) {
  if (gpu_op(call.op).launch != launch_linear) return;
  with_type(call.in[0], [&]<class T>() {
    if constexpr (sizeof(T) == 2) gemm.measure(linear_args<T>(call), most_rows);
  });
}

void copy_cache_blocks(const GpuKvCache& kv, const int32_t* from, const int32_t* to, int count, Stream stream) {
  with_element(kv, [&]<class C>() {
    for (int64_t layer = 0; layer < kv.shape.num_layers; ++layer) {
      copy_blocks(layer_of<C>(kv, layer), from, layer_of<C>(kv, layer), to, count, stream);
    }
  });
}

void check_gpu_kv(const PfKvShape& shape, int32_t activations) {
  const std::initializer_list<int> dims = {64, 80, 96, 128, 256};
  if (std::find(dims.begin(), dims.end(), shape.head_dim) == dims.end()) {
    refuse("attention on a GPU takes heads of 64, 80, 96, 128 or 256 channels, the model's have ", shape.head_dim);
  }
  PfTensor x{};
  x.dtype = activations;
  bool known = false;
  with_types(x, GpuKvCache{shape, nullptr, 0}, [&]<class, class>() { known = true; });
  if (!known) {
    refuse(
        "the KV cache of a GPU holds f32, f16 or i8 beside activations of f32; f16 beside f16; bf16, i8 or e4m3 beside "
        "bf16");
  }
  if (shape.block_size % 16 != 0) {
    refuse("block_size of a KV cache on a GPU is ", shape.block_size, ", must be a multiple of 16");
  }
}

size_t gpu_kv_element_bytes(const PfKvShape& shape) {
  if (shape.dtype == PF_F32) return 4;
  return shape.dtype == PF_F16 || shape.dtype == PF_BF16 ? 2 : 1;
}

bool has_prefill(int32_t activations, int32_t kv_dtype) {
  PfTensor x{};
  x.dtype = activations;
  GpuKvCache kv{};
  kv.shape.dtype = kv_dtype;
  bool has = false;
  with_types(x, kv, [&]<class T, class C>() { has = kHasPrefill<T, C>; });
  return has;
}

}  // namespace pf::gpu
