// The ops moe_gate_up and moe_down: rows are grouped by expert, and each expert's rows meet its tiles as in linear.
#include "../../activation/cpu/silu.h"
#include "../../cpu/kernels.h"
#include "../../cpu/tensor_rows.h"
#include "../../linear/cpu/packed.h"
#include "../../linear/cpu/tile_kernels.h"
#include "../moe.h"
#include "route.h"

namespace pf::PF_ISA {
namespace {

constexpr int64_t kBlockRows = 128;  // as kItemRows of linear
constexpr size_t kOutBytes = kBlockRows * kFloatStrip * kTile * sizeof(float);

constexpr size_t round64(size_t bytes) { return (bytes + 63) / 64 * 64; }

const PackedWeight& weight_of(const PfCall& call) { return *reinterpret_cast<const PackedWeight*>(call.weight); }

// One matrix of one expert.
struct Matrix {
  int32_t format;
  size_t tile_bytes;
  const uint8_t* data;
};

// The matrix that begins at row `first` of the weight.
Matrix matrix_at(const PackedWeight& weight, int64_t first, int64_t rows) {
  const PackedPart* part = weight.parts;
  while (first >= part->first_row + part->rows) ++part;
  const int64_t inside = first - part->first_row;
  if (inside % kTile != 0 || inside + rows > part->rows) {
    throw_misplaced_expert(first, rows);  // its tiles would hold rows of another one, too
  }
  return {part->format, part->tile_bytes, part->data + static_cast<size_t>(inside / kTile) * part->tile_bytes};
}

struct Plan {
  const PackedWeight& weight;
  const int64_t tokens, experts, top_k, slots, inputs_per_token, cols, groups;
  const int64_t matrices;  // of an expert: 2 are gate and up
  const int64_t columns;   // of a matrix
  bool quantized = false, has_floats = false;
  size_t panel_bytes = 0;

  Plan(const PfCall& call, int64_t matrices)
      : weight(weight_of(call)),
        tokens(call.in[0].rows),
        experts(call.in[1].cols),
        top_k(MoeParams(call).top_k),
        slots(tokens * top_k),
        inputs_per_token(call.in[0].cols / weight.cols),
        cols(weight.cols),
        groups(weight.cols / kGroup),
        matrices(matrices),
        columns(weight.rows / (experts * matrices)) {
    for (int32_t i = 0; i < weight.num_parts; ++i) {
      const int32_t format = weight.parts[i].format;
      if (!is_quantized(format)) {
        has_floats = true;
        continue;
      }
      quantized = true;
      const size_t bytes = static_cast<size_t>(groups) * quantized_kernel(format).panel_bytes;
      if (bytes > panel_bytes) panel_bytes = bytes;
    }
  }

  int64_t strip_tiles() const { return quantized ? 1 : kFloatStrip; }
  int64_t strips() const { return (columns + strip_tiles() * kTile - 1) / (strip_tiles() * kTile); }
};

// What the threads share: which expert computes which slots, and the rows that are multiplied, in that order.
struct Shared {
  int32_t *ids, *order, *place, *start;  // [slots], [slots], [slots], [experts + 1]
  float* weights;                        // [slots]
  ActivationGroup* groups;               // [slots][groups]
  float* x;                              // [slots][cols]
  float* products;                       // [slots][columns]
};

Shared share(const Plan& plan, bool products, Worker& worker) {
  const auto slots = static_cast<size_t>(plan.slots);
  const size_t list = round64(slots * 4), start = round64(static_cast<size_t>(plan.experts + 1) * 4);
  const size_t groups =
      plan.quantized ? round64(slots * static_cast<size_t>(plan.groups) * sizeof(ActivationGroup)) : 0;
  const size_t floats = plan.has_floats ? round64(slots * static_cast<size_t>(plan.cols) * sizeof(float)) : 0;
  const size_t outputs = products ? slots * static_cast<size_t>(plan.columns) * sizeof(float) : 0;
  auto* at = static_cast<uint8_t*>(worker.shared(4 * list + start + groups + floats + outputs));
  const auto take = [&](size_t bytes) {
    uint8_t* const taken = at;
    at += bytes;
    return taken;
  };
  Shared shared{};
  shared.ids = reinterpret_cast<int32_t*>(take(list));
  shared.order = reinterpret_cast<int32_t*>(take(list));
  shared.place = reinterpret_cast<int32_t*>(take(list));
  shared.weights = reinterpret_cast<float*>(take(list));
  shared.start = reinterpret_cast<int32_t*>(take(start));
  shared.groups = reinterpret_cast<ActivationGroup*>(take(groups));
  shared.x = reinterpret_cast<float*>(take(floats));
  shared.products = reinterpret_cast<float*>(take(outputs));
  return shared;
}

// Slots by expert, each expert's in ascending order.
void sort_slots(const Plan& plan, const Shared& shared) {
  for (int64_t e = 0; e <= plan.experts; ++e) shared.start[e] = 0;
  for (int64_t s = 0; s < plan.slots; ++s) ++shared.start[shared.ids[s] + 1];
  for (int64_t e = 0; e < plan.experts; ++e) shared.start[e + 1] += shared.start[e];
  for (int64_t s = 0; s < plan.slots; ++s) {  // `start` serves as the next free place of each
    shared.place[s] = shared.start[shared.ids[s]]++;
    shared.order[shared.place[s]] = static_cast<int32_t>(s);
  }
  for (int64_t e = plan.experts; e > 0; --e) shared.start[e] = shared.start[e - 1];
  shared.start[0] = 0;
}

// Routes all tokens and puts what the kernels read of their rows in the order of the experts.
void prepare(const PfCall& call, const Plan& plan, const Shared& shared, Worker& worker) {
  const bool renormalize = MoeParams(call).renormalize;
  worker.for_each(
      plan.tokens,
      [&](int64_t t) {
        route(input_row(call, 1, t), plan.experts, plan.top_k, renormalize, shared.ids + t * plan.top_k,
              shared.weights + t * plan.top_k);
      },
      rows_per_claim(plan.experts * plan.top_k));
  worker.finish();
  worker.for_each(1, [&](int64_t) { sort_slots(plan, shared); });
  worker.finish();
  const int64_t copies = plan.top_k / plan.inputs_per_token;  // slots that read one row
  worker.for_each(plan.tokens * plan.inputs_per_token, [&](int64_t i) {
    const float* x = input_row(call, 0, i / plan.inputs_per_token) + i % plan.inputs_per_token * plan.cols;
    const int32_t* places = shared.place + i * copies;
    if (plan.quantized) {
      ActivationGroup* const first = shared.groups + places[0] * plan.groups;
      for (int64_t g = 0; g < plan.groups; ++g) quantize_group(x + g * kGroup, first + g);
      for (int64_t j = 1; j < copies; ++j) {
        memcpy(shared.groups + places[j] * plan.groups, first,
               static_cast<size_t>(plan.groups) * sizeof(ActivationGroup));
      }
    }
    for (int64_t j = 0; plan.has_floats && j < copies; ++j) {
      memcpy(shared.x + places[j] * plan.cols, x, static_cast<size_t>(plan.cols) * sizeof(float));
    }
  });
  worker.finish();
}

// Calls store(place, columns' first, count, products of matrix 0, of matrix 1) for each place and strip. An item is one
// strip of one expert with all its rows. Experts alternate, so that threads get equal shares of each.
template <class Store>
void multiply(const Plan& plan, const Shared& shared, Worker& worker, const Store& store) {
  auto* memory = static_cast<uint8_t*>(worker.scratch(2 * kOutBytes + plan.panel_bytes));
  float* const out[2] = {reinterpret_cast<float*>(memory), reinterpret_cast<float*>(memory + kOutBytes)};
  uint8_t* panel = memory + 2 * kOutBytes;
  worker.for_each(plan.strips() * plan.experts, [&](int64_t item) {
    const int64_t expert = item % plan.experts, tile = item / plan.experts * plan.strip_tiles();
    const int64_t last = shared.start[expert + 1];
    const int64_t remaining = plan.columns - tile * kTile, all_tiles = (remaining + kTile - 1) / kTile;
    const int64_t tiles = all_tiles < plan.strip_tiles() ? all_tiles : plan.strip_tiles(), width = tiles * kTile;
    for (int64_t first = shared.start[expert]; first < last;) {
      const int64_t rows = last - first < kBlockRows ? last - first : kBlockRows;
      for (int64_t m = 0; m < plan.matrices; ++m) {
        const Matrix matrix = matrix_at(plan.weight, (expert * plan.matrices + m) * plan.columns, plan.columns);
        const uint8_t* data = matrix.data + static_cast<size_t>(tile) * matrix.tile_bytes;
        if (is_quantized(matrix.format)) {
          quantized_kernel(matrix.format)
              .run(data, plan.groups, shared.groups + first * plan.groups, rows, panel, out[m]);
        } else {
          float_kernel(matrix.format)(data, matrix.tile_bytes, static_cast<int>(tiles), plan.cols,
                                      shared.x + first * plan.cols, plan.cols, rows, out[m]);
        }
      }
      for (int64_t r = 0; r < rows; ++r) {
        store(first + r, tile * kTile, remaining < width ? remaining : width, out[0] + r * width, out[1] + r * width);
      }
      first += rows;
    }
  });
}

void moe_gate_up(const PfCall& call, const PfStep&, Worker& worker) {
  const Plan plan(call, 2);
  const Shared shared = share(plan, false, worker);
  prepare(call, plan, shared, worker);
  multiply(plan, shared, worker, [&](int64_t place, int64_t column, int64_t count, const float* gate, const float* up) {
    const int64_t slot = shared.order[place];
    float* y = output_row(call, 0, slot / plan.top_k) + slot % plan.top_k * plan.columns + column;
    for (int64_t c = 0; c < count; c += kTile) {
      store_left(y + c, mul(silu(load(gate + c)), load(up + c)), count - c);
    }
  });
}

void moe_down(const PfCall& call, const PfStep&, Worker& worker) {
  const Plan plan(call, 1);
  const Shared shared = share(plan, true, worker);
  prepare(call, plan, shared, worker);
  multiply(plan, shared, worker, [&](int64_t place, int64_t column, int64_t count, const float* product, const float*) {
    float* y = shared.products + shared.order[place] * plan.columns + column;
    for (int64_t c = 0; c < count; c += kTile) store_left(y + c, load(product + c), count - c);
  });
  worker.finish();
  worker.for_each(
      plan.tokens,
      [&](int64_t t) {
        const float* products = shared.products + t * plan.top_k * plan.columns;
        float* y = output_row(call, 0, t);
        for (int64_t c = 0; c < plan.columns; c += kTile) {
          const int64_t n = plan.columns - c;
          F16x sum = zero();
          for (int64_t j = 0; j < plan.top_k; ++j) {
            sum = fma(set1(shared.weights[t * plan.top_k + j]), load_left(products + j * plan.columns + c, n), sum);
          }
          store_left(y + c, sum, n);
        }
      },
      rows_per_claim(plan.columns * plan.top_k));
}

constexpr OpEntry kOps[] = {{"moe_gate_up", moe_gate_up}, {"moe_down", moe_down}};

}  // namespace

const OpTable& moe_ops() {
  static const OpTable table = {kOps, sizeof kOps / sizeof *kOps};
  return table;
}

}  // namespace pf::PF_ISA
