#include "gpu_ops.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "../../runtime/errors.h"
#include "../activation/gpu/activation.h"
#include "../attention/attention.h"
#include "../attention/gpu/attention.h"
#include "../linear/gpu/embed.h"
#include "../linear/gpu/linear.h"
#include "../norm/gpu/norm.h"
#include "../norm/norm.h"
#include "gpu_moe.h"

namespace pf::gpu {
namespace {

const float* input(const PfCall& call, int i) { return static_cast<const float*>(call.in[i].data); }
float* output(const PfCall& call, int i) { return static_cast<float*>(call.out[i].data); }
const GpuWeight& weight_of(const PfCall& call) { return *reinterpret_cast<const GpuWeight*>(call.weight); }

void launch_embed(const PfCall& call, const GpuStep& step, Stream stream) {
  const GpuWeight& weight = weight_of(call);
  float* const y = output(call, 0);
  const int64_t stride = call.out[0].stride, tokens = call.out[0].rows;
  const auto scale = static_cast<float>(call.floats[0]);
  if (weight.is_plain()) {
    embed<float>(reinterpret_cast<const float*>(weight.data), weight.rows, step.token_ids, y, stride, tokens,
                 weight.cols, scale, stream);
  } else {
    embed_packed<float>(reinterpret_cast<const uint8_t*>(weight.data), weight.layout, weight.rows, step.token_ids, y,
                        stride, tokens, weight.cols, scale, stream);
  }
}

void launch_linear(const PfCall& call, const GpuStep&, Stream stream) {
  const GpuWeight& weight = weight_of(call);
  LinearArgs<float> args;
  args.x = input(call, 0);
  args.x_stride = call.in[0].stride;
  args.weight.data = weight.data;
  args.weight.layout = weight.layout;
  args.weight.n = weight.rows;
  args.weight.k = args.weight.stride = weight.cols;
  args.y = output(call, 0);
  args.y_stride = call.out[0].stride;
  args.rows = call.out[0].rows;
  args.bias = call.vector;
  linear<float>(args, stream);
}

void launch_norm(const PfCall& call, const float* b, int64_t b_stride, float* sum, int64_t sum_stride,
                 const PfTensor& y, Stream stream) {
  const NormParams params(call);
  RmsNormArgs<float> args{};
  args.a = input(call, 0);
  args.a_stride = call.in[0].stride;
  args.b = b;
  args.b_stride = b_stride;
  args.sum = sum;
  args.sum_stride = sum_stride;
  args.weight = call.vector;
  args.y = static_cast<float*>(y.data);
  args.y_stride = y.stride;
  args.rows = y.rows;
  args.groups = params.groups;
  args.width = call.vector_len;
  args.eps = params.eps;
  rms_norm<float>(args, stream);
}

void launch_rms_norm(const PfCall& call, const GpuStep&, Stream stream) {
  launch_norm(call, nullptr, 0, nullptr, 0, call.out[0], stream);
}

void launch_add_rms_norm(const PfCall& call, const GpuStep&, Stream stream) {
  launch_norm(call, input(call, 1), call.in[1].stride, output(call, 0), call.out[0].stride, call.out[1], stream);
}

void launch_add(const PfCall& call, const GpuStep&, Stream stream) {
  add<float>(input(call, 0), call.in[0].stride, input(call, 1), call.in[1].stride, output(call, 0), call.out[0].stride,
             call.out[0].rows, call.out[0].cols, stream);
}

void launch_silu_mul(const PfCall& call, const GpuStep&, Stream stream) {
  silu_mul<float>(input(call, 0), call.in[0].stride, output(call, 0), call.out[0].stride, call.out[0].rows,
                  call.out[0].cols, stream);
}

void launch_gather_rows(const PfCall& call, const GpuStep& step, Stream stream) {
  gather_rows<float>(input(call, 0), call.in[0].stride, step.logits_rows, output(call, 0), call.out[0].stride,
                     call.out[0].rows, call.out[0].cols, stream);
}

void launch_rope_angles(const PfCall& call, const GpuStep& step, Stream stream) {
  rope_angles(step.positions, call.vector, output(call, 0), call.out[0].stride, call.out[0].rows, call.vector_len,
              call.floats[0], stream);
}

void launch_rope(const PfCall& call, const GpuStep& step, Stream stream) {
  const RopeParams params(call);
  RopeCacheArgs<float, float> args{};
  args.q = input(call, 0);
  args.q_stride = call.in[0].stride;
  args.cs = input(call, 1);
  args.cs_stride = call.in[1].stride;
  args.slots = step.slots;
  args.q_out = output(call, 0);
  args.q_out_stride = call.out[0].stride;
  args.cache.block_size = 1;
  args.cache.head_dim = static_cast<int>(params.head_dim);
  args.tokens = static_cast<int>(call.out[0].rows);
  args.heads = static_cast<int>(params.heads);
  args.rot_dim = static_cast<int>(params.rot_dim);
  args.interleaved = params.interleaved;
  rope_cache(args, stream);
}

template <class C>
KvLayer<C> layer_of(const GpuKvCache& kv, int64_t layer) {
  char* const k = kv.memory + static_cast<size_t>(2 * layer) * kv.layer_bytes;
  return {reinterpret_cast<C*>(k), reinterpret_cast<C*>(k + kv.layer_bytes), kv.shape.block_size, kv.shape.kv_heads,
          kv.shape.head_dim};
}

// Calls fn.template operator()<C>() with the type of the cache's elements.
template <class Fn>
void with_element(const GpuKvCache& kv, Fn&& fn) {
  if (kv.shape.dtype == PF_F32) {
    fn.template operator()<float>();
  } else {
    fn.template operator()<f16>();
  }
}

void launch_cache_write(const PfCall& call, const GpuStep& step, Stream stream) {
  const CacheWriteParams params(call);
  with_element(*step.kv, [&]<class C>() {
    RopeCacheArgs<float, C> args{};
    args.k = input(call, 0);
    args.k_stride = call.in[0].stride;
    args.v = input(call, 1);
    args.v_stride = call.in[1].stride;
    args.slots = step.slots;
    args.cache = layer_of<C>(*step.kv, params.layer);
    args.tokens = static_cast<int>(call.in[0].rows);
    rope_cache(args, stream);
  });
}

size_t attention_scratch(const PfCall& call, const GpuStep& step) {
  const AttentionParams params(call);
  if (step.max_len <= kAttentionSplit) return 0;
  return attention_partials(call.out[0].rows, params.heads, params.head_dim, step.max_len);
}

void launch_attention(const PfCall& call, const GpuStep& step, Stream stream) {
  const AttentionParams params(call);
  with_element(*step.kv, [&]<class C>() {
    AttentionArgs<float, C> args{};
    args.q = input(call, 0);
    args.q_stride = call.in[0].stride;
    args.out = output(call, 0);
    args.out_stride = call.out[0].stride;
    args.cache = layer_of<C>(*step.kv, params.layer);
    args.query_start = step.query_start;
    args.seq_lens = step.seq_lens;
    args.block_tables = step.block_tables;
    args.partials = step.partials;
    args.tokens = static_cast<int>(call.out[0].rows);
    args.seqs = step.seqs;
    args.heads = static_cast<int>(params.heads);
    args.max_blocks = step.max_blocks;
    args.max_len = step.max_len;
    args.window = static_cast<int>(params.window);
    args.scale = params.scale;
    args.softcap = params.softcap;
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

void copy_cache_blocks(const GpuKvCache& kv, const int32_t* from, const int32_t* to, int count, Stream stream) {
  with_element(kv, [&]<class C>() {
    for (int64_t layer = 0; layer < kv.shape.num_layers; ++layer) {
      copy_blocks(layer_of<C>(kv, layer), from, layer_of<C>(kv, layer), to, count, stream);
    }
  });
}

void check_gpu_kv(const PfKvShape& shape) {
  const std::initializer_list<int> dims = {64, 80, 96, 128, 256};
  if (std::find(dims.begin(), dims.end(), shape.head_dim) == dims.end()) {
    refuse("attention on a GPU takes heads of 64, 80, 96, 128 or 256 channels, the model's have ", shape.head_dim);
  }
  if (shape.dtype != PF_F32 && shape.dtype != PF_F16) refuse("the KV cache of a GPU holds f32 or f16");
  if (shape.block_size % 16 != 0) {
    refuse("block_size of a KV cache on a GPU is ", shape.block_size, ", must be a multiple of 16");
  }
}

size_t gpu_kv_element_bytes(const PfKvShape& shape) { return shape.dtype == PF_F32 ? 4 : 2; }

}  // namespace pf::gpu
