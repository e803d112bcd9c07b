// Routing, alignment and combination of a mixture of experts, and its two products in between.
#include <stdexcept>
#include <string>

#include "../../../gpu/values.h"
#include "moe.h"

namespace pf::gpu {
namespace {

constexpr int kRouteThreads = 128, kAlignThreads = 256, kCombineThreads = 128;

// --- routing ---------------------------------------------------------------------------------------------------------

// An expert as the choice sees it: larger keys first, then lower ids.
struct Choice {
  float key;
  int id;  // -1 = none

  GPU_DEVICE bool before(const Choice& other) const {
    return other.id < 0 || (id >= 0 && (key > other.key || (key == other.key && id < other.id)));
  }
};

// One warp a token. Each choice goes through all logits and takes the best that comes after the last one: nothing is
// marked, so that nothing but the logits is kept.
template <class T>
GPU_KERNEL(kRouteThreads)
void route_kernel(RouteArgs<T> args) {
  const int64_t token = int64_t{block_x()} * (kRouteThreads / kWarp) + warp_id();
  if (token >= args.tokens) return;
  const int lane = lane_id();
  const T* logits = args.logits + token * args.logits_stride;

  float largest = -INFINITY, sum = 0.0f;
  if (!args.sigmoid) {
    for (int e = lane; e < args.experts; e += kWarp) largest = fmaxf(largest, to_float(logits[e]));
    largest = warp_max(largest);
    for (int e = lane; e < args.experts; e += kWarp) sum += expf(to_float(logits[e]) - largest);
    sum = warp_sum(sum);
  }
  const auto score = [&](int e) {
    const float logit = to_float(logits[e]);
    return args.sigmoid ? 1.0f / (1.0f + expf(-logit)) : expf(logit - largest) / sum;
  };

  Choice last = {INFINITY, -1}, mine = {0.0f, -1};
  float weight = 0.0f, total = 0.0f;
  for (int j = 0; j < args.top_k; ++j) {
    Choice best = {-INFINITY, -1};
    for (int e = lane; e < args.experts; e += kWarp) {
      Choice choice = {args.bias == nullptr ? to_float(logits[e]) : score(e) + args.bias[e], e};
      if (choice.key != choice.key) choice.key = INFINITY;
      const bool later = last.id < 0 || last.before(choice) || GPU_PLANTED("route: takes one twice");
      if (later && choice.before(best)) best = choice;
    }
    GPU_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const Choice other = {shuffle_xor(best.key, mask), shuffle_xor(best.id, mask)};
      if (other.before(best)) best = other;
    }
    last = best;
    const float chosen = score(best.id);
    total += chosen;
    if (lane == j) {
      mine = best;
      weight = chosen;
    }
  }
  if (lane >= args.top_k) return;
  args.ids[token * args.top_k + lane] = mine.id;
  args.weights[token * args.top_k + lane] = (args.renormalize ? weight / total : weight) * args.scale;
}

// --- alignment -------------------------------------------------------------------------------------------------------

// Block e of the grid places the slots of expert e; the last one marks the blocks that are left. Each counts all slots
// for itself, which saves a kernel, its counters and a grid-wide barrier.
GPU_KERNEL(kAlignThreads)
void align_kernel(AlignArgs args, int blocks) {
  constexpr int kWarps = kAlignThreads / kWarp;
  GPU_DYNAMIC_SHARED(int32_t, counts);
  GPU_SHARED(int32_t, warp_counts, [kWarps]);
  GPU_SHARED(int32_t, first_block, [1]);
  const int t = static_cast<int>(thread_x()), expert = static_cast<int>(block_x()), rows = args.block_rows;
  for (int e = t; e < args.experts; e += kAlignThreads) counts[e] = 0;
  if (t == 0) first_block[0] = 0;
  block_sync();
  for (int64_t i = t; i < args.slots; i += kAlignThreads) {
    const int id = args.ids[i];
    if (id >= 0 && id < args.experts) atomic_add(&counts[id], 1);
  }
  block_sync();
  for (int e = t; e < expert; e += kAlignThreads) atomic_add(first_block, (counts[e] + rows - 1) / rows);
  block_sync();
  const int before = first_block[0];
  if (expert == args.experts) {
    for (int b = before + t; b < blocks; b += kAlignThreads) args.block_expert[b] = -1;
    return;
  }

  const int filled = (counts[expert] + rows - 1) / rows;
  for (int b = t; b < filled; b += kAlignThreads) args.block_expert[before + b] = expert;
  int32_t* place = args.block_slots + int64_t{before} * rows;
  int placed = 0;
  for (int64_t base = 0; base < args.slots; base += kAlignThreads) {
    const int64_t i = base + t;
    const bool here = i < args.slots && args.ids[i] == expert;
    const uint64_t votes = ballot(here);
    if (lane_id() == 0) warp_counts[warp_id()] = popcount(votes);
    block_sync();
    int rank = popcount(votes & ((uint64_t{1} << lane_id()) - 1)), total = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp_id()) rank += warp_counts[w];
      total += warp_counts[w];
    }
    if (here) place[placed + rank] = static_cast<int32_t>(i);
    placed += total;
    block_sync();
  }
  for (int i = placed + t; i < filled * rows; i += kAlignThreads) place[i] = -1;
}

// --- combination -----------------------------------------------------------------------------------------------------

template <class T>
GPU_KERNEL(kCombineThreads)
void combine_kernel(CombineArgs<T> args, bool vectors) {
  with_step<T>(vectors, [&]<int kStep>() {
    const int64_t token = block_x(), column = (int64_t{block_y()} * kCombineThreads + thread_x()) * kStep;
    if (column >= args.cols) return;
    float sum[kStep] = {};
    if (args.residual != nullptr) load_values(args.residual + token * args.residual_stride + column, sum);
    for (int j = 0; j < args.top_k; ++j) {
      const int64_t slot = token * args.top_k + j;
      const int id = args.ids[slot];
      if ((id < 0 || id >= args.experts) && !GPU_PLANTED("combine: foreign experts")) continue;
      float v[kStep];
      load_values(args.slots + slot * args.slots_stride + column, v);
      const float weight = args.weights[slot];
      GPU_UNROLL for (int i = 0; i < kStep; ++i) sum[i] = fmaf(weight, v[i], sum[i]);
    }
    store_values(args.y + token * args.y_stride + column, sum);
  });
}

int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Where things lie in the scratch memory of moe().
template <class T>
struct Scratch {
  int block_rows;
  int64_t blocks, slots_at, inner_at, outer_at, bytes;

  Scratch(int64_t tokens, int top_k, int experts, int64_t hidden, int64_t inner) {
    const int64_t slots = tokens * top_k;
    block_rows = moe_block_rows(slots, experts);
    blocks = moe_blocks(slots, experts, block_rows);
    slots_at = aligned(blocks * 4);
    inner_at = slots_at + aligned(blocks * block_rows * 4);
    outer_at = inner_at + aligned(slots * inner * static_cast<int64_t>(sizeof(T)));
    bytes = outer_at + aligned(slots * hidden * static_cast<int64_t>(sizeof(T)));
  }
};

}  // namespace

template <class T>
void moe_route(const RouteArgs<T>& args, Stream stream) {
  if (args.top_k < 1 || args.top_k > args.experts || args.top_k > kMaxTopK) {
    throw std::invalid_argument("moe_route on a GPU: top_k is " + std::to_string(args.top_k) + " of " +
                                std::to_string(args.experts) + " experts; it can be 1 .. " + std::to_string(kMaxTopK));
  }
  if (args.tokens == 0) return;
  // For the smallest warp's share; of a larger grid than needed the surplus leaves at once.
  const auto blocks = static_cast<unsigned>((args.tokens + kRouteThreads / 64 - 1) / (kRouteThreads / 64));
  GPU_LAUNCH((route_kernel<T>), Dim3{blocks}, kRouteThreads, 0, stream, args);
}

int moe_block_rows(int64_t slots, int experts) { return slots <= int64_t{16} * experts ? 16 : 64; }

int64_t moe_blocks(int64_t slots, int experts, int block_rows) {
  // Each expert that has a slot wastes less than a block.
  const int64_t used = slots < experts ? slots : experts;
  return (slots + used * (block_rows - 1)) / block_rows;
}

void moe_align(const AlignArgs& args, Stream stream) {
  if (args.experts < 1 || args.experts > kMaxExperts) {
    throw std::invalid_argument("moe_align on a GPU: " + std::to_string(args.experts) + " experts; there can be 1 .. " +
                                std::to_string(kMaxExperts));
  }
  if (args.slots == 0) return;
  const auto blocks = static_cast<int>(moe_blocks(args.slots, args.experts, args.block_rows));
  GPU_LAUNCH(align_kernel, (Dim3{static_cast<unsigned>(args.experts + 1)}), kAlignThreads,
             static_cast<size_t>(args.experts) * 4, stream, args, blocks);
}

template <class T>
void moe_combine(const CombineArgs<T>& args, Stream stream) {
  if (args.tokens == 0) return;
  bool vectors = rows_are_vectors<T>(args.slots, args.cols, args.slots_stride) &&
                 rows_are_vectors<T>(args.y, args.cols, args.y_stride);
  if (args.residual != nullptr) {
    vectors = vectors && rows_are_vectors<T>(args.residual, args.cols, args.residual_stride);
  }
  const int64_t threads = vectors ? args.cols / kPerVec<T> : args.cols;
  const Dim3 grid = {static_cast<unsigned>(args.tokens),
                     static_cast<unsigned>((threads + kCombineThreads - 1) / kCombineThreads)};
  GPU_LAUNCH(combine_kernel<T>, grid, kCombineThreads, 0, stream, args, vectors);
}

template <class T>
size_t moe_scratch(int64_t tokens, int top_k, int experts, int64_t hidden, int64_t inner) {
  return static_cast<size_t>(Scratch<T>(tokens, top_k, experts, hidden, inner).bytes);
}

template <class T>
void moe(const MoeArgs<T>& args, Stream stream) {
  if (args.tokens == 0) return;
  const int64_t hidden = args.down.n, inner = args.down.k;
  if (args.gate_up.n != 2 * inner || args.gate_up.k != hidden) {
    throw std::invalid_argument("moe on a GPU: gate_up is " + std::to_string(args.gate_up.n) + " x " +
                                std::to_string(args.gate_up.k) + " where down is " + std::to_string(hidden) + " x " +
                                std::to_string(inner));
  }
  const Scratch<T> places(args.tokens, args.top_k, args.experts, hidden, inner);
  char* scratch = static_cast<char*>(args.scratch);
  auto* block_expert = reinterpret_cast<int32_t*>(scratch);
  auto* block_slots = reinterpret_cast<int32_t*>(scratch + places.slots_at);
  T* inner_slots = reinterpret_cast<T*>(scratch + places.inner_at);
  T* outer_slots = reinterpret_cast<T*>(scratch + places.outer_at);
  const int64_t slots = args.tokens * args.top_k;
  moe_align({args.ids, block_expert, block_slots, slots, args.experts, places.block_rows}, stream);

  LinearArgs<T> up;
  up.x = args.x;
  up.weight = args.gate_up;
  up.y = inner_slots;
  up.rows = slots;
  up.x_stride = args.x_stride;
  up.y_stride = inner;
  up.silu_mul = true;
  up.experts = {block_expert, block_slots, static_cast<int>(places.blocks), places.block_rows, args.top_k};
  linear(up, stream);

  LinearArgs<T> down;
  down.x = inner_slots;
  down.weight = args.down;
  down.y = outer_slots;
  down.rows = slots;
  down.x_stride = inner;
  down.y_stride = hidden;
  down.experts = {block_expert, block_slots, static_cast<int>(places.blocks), places.block_rows, 1};
  linear(down, stream);

  CombineArgs<T> combine{};
  combine.slots = outer_slots;
  combine.ids = args.ids;
  combine.weights = args.weights;
  combine.residual = args.residual;
  combine.y = args.y;
  combine.slots_stride = hidden;
  combine.residual_stride = args.residual_stride;
  combine.y_stride = args.y_stride;
  combine.tokens = args.tokens;
  combine.cols = hidden;
  combine.experts = args.experts;
  combine.top_k = args.top_k;
  moe_combine(combine, stream);
}

#define PF_INSTANTIATE(T)                                              \
  template void moe_route(const RouteArgs<T>&, Stream);                \
  template void moe_combine(const CombineArgs<T>&, Stream);            \
  template size_t moe_scratch<T>(int64_t, int, int, int64_t, int64_t); \
  template void moe(const MoeArgs<T>&, Stream)
PF_INSTANTIATE(float);
PF_INSTANTIATE(f16);
PF_INSTANTIATE(bf16);
#undef PF_INSTANTIATE

}  // namespace pf::gpu
