#include "gpu_moe.h"

#include "../activation/gpu/activation.h"
#include "../moe/gpu/moe.h"
#include "../moe/moe.h"

namespace pf::gpu {
namespace {

constexpr size_t aligned(size_t floats) { return (floats + 63) / 64 * 64; }

// What both ops have in scratch memory: the routes, the slots in blocks of one expert each, and the products.
struct Mixture {
  const GpuWeight& weight;
  const MoeParams params;
  const int experts, top_k;
  const int64_t tokens, slots, columns;  // columns of the products
  const int block_rows;
  const int64_t blocks;
  size_t weights_at, experts_at, slots_at, products_at, floats;

  explicit Mixture(const PfCall& call)
      : weight(*reinterpret_cast<const GpuWeight*>(call.weight)),
        params(call),
        experts(static_cast<int>(call.in[1].cols)),
        top_k(static_cast<int>(params.top_k)),
        tokens(call.in[0].rows),
        slots(tokens * top_k),
        columns(weight.rows / experts),
        block_rows(moe_block_rows(slots, experts)),
        blocks(moe_blocks(slots, experts, block_rows)) {
    weights_at = aligned(static_cast<size_t>(slots));
    experts_at = weights_at + aligned(static_cast<size_t>(slots));
    slots_at = experts_at + aligned(static_cast<size_t>(blocks));
    products_at = slots_at + aligned(static_cast<size_t>(blocks * block_rows));
    floats = products_at + aligned(static_cast<size_t>(slots * columns));
  }
};

// Routes the tokens of `call` and multiplies x, whose rows `slots_per_row` slots read, with their experts.
template <class T>
void multiply(const PfCall& call, const Mixture& mixture, const GpuStep& step, const T* x, int64_t x_stride,
              int slots_per_row, Stream stream) {
  auto* ids = reinterpret_cast<int32_t*>(step.partials);
  auto* block_expert = reinterpret_cast<int32_t*>(step.partials + mixture.experts_at);
  auto* block_slots = reinterpret_cast<int32_t*>(step.partials + mixture.slots_at);
  RouteArgs<T> routes{};
  routes.logits = static_cast<const T*>(call.in[1].data);
  routes.logits_stride = call.in[1].stride;
  routes.ids = ids;
  routes.weights = step.partials + mixture.weights_at;
  routes.tokens = mixture.tokens;
  routes.experts = mixture.experts;
  routes.top_k = mixture.top_k;
  routes.renormalize = mixture.params.renormalize;
  routes.scale = 1.0f;
  moe_route(routes, stream);
  moe_align({ids, block_expert, block_slots, mixture.slots, mixture.experts, mixture.block_rows}, stream);

  const GpuWeight& weight = mixture.weight;
  LinearArgs<T> product;
  product.x = x;
  product.x_stride = x_stride;
  product.weight.data = weight.data;
  product.weight.layout = weight.layout;
  product.weight.n = mixture.columns;
  product.weight.k = product.weight.stride = weight.cols;
  product.weight.packed_rows = weight.rows;
  product.y = reinterpret_cast<T*>(step.partials + mixture.products_at);
  product.y_stride = mixture.columns;
  product.rows = mixture.slots;
  product.experts = {block_expert, block_slots, static_cast<int>(mixture.blocks), mixture.block_rows, slots_per_row};
  linear(product, stream);
}

// Whether the inputs of slots are rows of one matrix, as the product wants them.
bool slots_are_rows(const PfCall& call) { return call.in[0].stride == call.in[0].cols; }

template <class T>
void gate_up(const PfCall& call, const GpuStep& step, Stream stream) {
  const Mixture mixture(call);
  if (mixture.tokens == 0) return;
  multiply<T>(call, mixture, step, static_cast<const T*>(call.in[0].data), call.in[0].stride, mixture.top_k, stream);
  const T* products = reinterpret_cast<const T*>(step.partials + mixture.products_at);
  const int64_t inner = mixture.columns / 2;
  if (call.out[0].stride == call.out[0].cols) {
    silu_mul(products, mixture.columns, static_cast<T*>(call.out[0].data), inner, mixture.slots, inner, stream);
    return;
  }
  for (int j = 0; j < mixture.top_k; ++j) {
    silu_mul(products + j * mixture.columns, mixture.top_k * mixture.columns,
             static_cast<T*>(call.out[0].data) + j * inner, call.out[0].stride, mixture.tokens, inner, stream);
  }
}

template <class T>
void down(const PfCall& call, const GpuStep& step, Stream stream) {
  const Mixture mixture(call);
  if (mixture.tokens == 0) return;
  const T* x = static_cast<const T*>(call.in[0].data);
  if (!slots_are_rows(call)) {
    T* const rows = reinterpret_cast<T*>(step.partials + mixture.floats);
    gather_rows(x, call.in[0].stride, nullptr, rows, call.in[0].cols, mixture.tokens, call.in[0].cols, stream);
    x = rows;
  }
  multiply<T>(call, mixture, step, x, mixture.weight.cols, 1, stream);
  CombineArgs<T> args{};
  args.slots = reinterpret_cast<const T*>(step.partials + mixture.products_at);
  args.ids = reinterpret_cast<const int32_t*>(step.partials);
  args.weights = step.partials + mixture.weights_at;
  args.y = static_cast<T*>(call.out[0].data);
  args.slots_stride = args.cols = mixture.columns;
  args.y_stride = call.out[0].stride;
  args.tokens = mixture.tokens;
  args.experts = mixture.experts;
  args.top_k = mixture.top_k;
  moe_combine(args, stream);
}

// Calls fn.template operator()<T>() with the type of the activations.
template <class Fn>
void with_type(const PfCall& call, Fn&& fn) {
  if (call.in[0].dtype == PF_F16) return fn.template operator()<f16>();
  if (call.in[0].dtype == PF_BF16) return fn.template operator()<bf16>();
  fn.template operator()<float>();
}

}  // namespace

size_t moe_gate_up_scratch(const PfCall& call, const GpuStep&) { return Mixture(call).floats; }
size_t moe_down_scratch(const PfCall& call, const GpuStep&) {
  const auto copied = static_cast<size_t>(call.in[0].rows * call.in[0].cols);
  return Mixture(call).floats + (slots_are_rows(call) ? 0 : copied);
}

void launch_moe_gate_up(const PfCall& call, const GpuStep& step, Stream stream) {
  with_type(call, [&]<class T>() { gate_up<T>(call, step, stream); });
}

void launch_moe_down(const PfCall& call, const GpuStep& step, Stream stream) {
  with_type(call, [&]<class T>() { down<T>(call, step, stream); });
}

}  // namespace pf::gpu
