// The ops linear and embed: who computes which tile for which rows.
#include "../../cpu/kernels.h"
#include "../../cpu/tensor_rows.h"
#include "packed.h"
#include "tile_kernels.h"

namespace pf::PF_ISA {
namespace {

// Rows of one item of work. Their activations (128 * 1,536 * 44 / 32 bytes = 270 kB in a small model) should stay in
// the second-level cache while tiles pass by, and unpacking a tile should be paid for by many of them.
constexpr int64_t kItemRows = 128;

const PackedWeight& weight_of(const PfCall& call) { return *reinterpret_cast<const PackedWeight*>(call.weight); }

int64_t strip_tiles(const PackedPart& part) { return is_quantized(part.format) ? 1 : kFloatStrip; }
int64_t num_strips(const PackedPart& part) { return (part.tiles + strip_tiles(part) - 1) / strip_tiles(part); }

struct Plan {
  const PackedWeight& weight;
  int64_t rows, groups;
  int64_t strips = 0;      // of all parts
  bool quantized = false;  // any part
  size_t panel_bytes = 0;  // room for the unpacked tile of any part

  explicit Plan(const PfCall& call) : weight(weight_of(call)), rows(call.in[0].rows), groups(weight.cols / kGroup) {
    for (int32_t i = 0; i < weight.num_parts; ++i) {
      const PackedPart& part = weight.parts[i];
      strips += num_strips(part);
      if (!is_quantized(part.format)) continue;
      quantized = true;
      const size_t bytes = static_cast<size_t>(groups) * quantized_kernel(part.format).panel_bytes;
      if (bytes > panel_bytes) panel_bytes = bytes;
    }
  }
  int64_t items() const { return strips * ((rows + kItemRows - 1) / kItemRows); }

  // Enough claims to even out threads of different speed, but no more: a claim costs some 50 ns.
  int64_t chunk(int threads) const {
    const int64_t share = items() / (16 * threads);
    return share < 1 ? 1 : share > 16 ? 16 : share;
  }
};

const ActivationGroup* quantize_rows(const PfCall& call, const Plan& plan, Worker& worker) {
  const auto count = static_cast<size_t>(plan.rows * plan.groups);
  auto* groups = static_cast<ActivationGroup*>(worker.shared(count * sizeof(ActivationGroup)));
  constexpr int64_t kPiece = 16;  // groups of one claim
  const int64_t pieces = (plan.groups + kPiece - 1) / kPiece;
  worker.for_each(plan.rows * pieces, [&](int64_t i) {
    const int64_t row = i / pieces, begin = i % pieces * kPiece;
    const int64_t end = begin + kPiece < plan.groups ? begin + kPiece : plan.groups;
    const float* x = input_row(call, 0, row);
    for (int64_t g = begin; g < end; ++g) quantize_group(x + g * kGroup, groups + row * plan.groups + g);
  });
  worker.barrier();
  return groups;
}

// Adds the bias and writes the columns that exist. `out` is [rows][width].
void store_outputs(const PfCall& call, int64_t row, int64_t rows, int64_t column, int64_t columns, int64_t width,
                   const float* out) {
  for (int64_t c = 0; c < columns; c += kTile) {
    const int64_t n = columns - c < kTile ? columns - c : kTile;
    const F16x bias = call.vector == nullptr ? zero() : load_partial(call.vector + column + c, n, 0.0f);
    for (int64_t r = 0; r < rows; ++r) {
      const F16x sum = load(out + r * width + c);
      const F16x y = call.vector == nullptr ? sum : add(sum, bias);
      float* to = output_row(call, 0, row + r) + column + c;
      if (n == kTile) {
        store(to, y);
      } else {
        store_partial(to, y, n);
      }
    }
  }
}

void linear(const PfCall& call, const PfStep&, Worker& worker) {
  const Plan plan(call);
  const ActivationGroup* activations = plan.quantized ? quantize_rows(call, plan, worker) : nullptr;
  constexpr size_t kOutBytes = kItemRows * kFloatStrip * kTile * sizeof(float);
  auto* out = static_cast<float*>(worker.scratch(kOutBytes + plan.panel_bytes));
  uint8_t* panel = reinterpret_cast<uint8_t*>(out) + kOutBytes;

  const auto run_item = [&](int64_t item) {
    const int64_t row = item / plan.strips * kItemRows;
    const int64_t rows = plan.rows - row < kItemRows ? plan.rows - row : kItemRows;
    int64_t strip = item % plan.strips;
    const PackedPart* part = plan.weight.parts;
    for (; strip >= num_strips(*part); ++part) strip -= num_strips(*part);

    const int64_t tile = strip * strip_tiles(*part);
    const uint8_t* data = part->data + static_cast<size_t>(tile) * part->tile_bytes;
    const int64_t tiles = part->tiles - tile < strip_tiles(*part) ? part->tiles - tile : strip_tiles(*part);
    if (is_quantized(part->format)) {
      quantized_kernel(part->format).run(data, plan.groups, activations + row * plan.groups, rows, panel, out);
    } else {
      float_kernel(part->format)(data, part->tile_bytes, static_cast<int>(tiles), plan.weight.cols,
                                 input_row(call, 0, row), call.in[0].stride, rows, out);
    }
    const int64_t column = tile * kTile, left = part->rows - column;
    store_outputs(call, row, rows, part->first_row + column, left < tiles * kTile ? left : tiles * kTile, tiles * kTile,
                  out);
  };
  worker.for_each(plan.items(), run_item, plan.chunk(worker.num_threads()));
}

void embed(const PfCall& call, const PfStep& step, Worker& worker) {
  const F16x scale = set1(static_cast<float>(call.floats[0]));
  const int64_t cols = call.out[0].cols;
  worker.for_each(call.out[0].rows, [&](int64_t t) {
    float* y = output_row(call, 0, t);
    dequantize_rows(weight_of(call), step.token_ids[t], 1, y);
    for (int64_t c = 0; c < cols; c += kTile) {
      const int64_t n = cols - c < kTile ? cols - c : kTile;
      store_partial(y + c, mul(load_partial(y + c, n, 0.0f), scale), n);
    }
  });
}

constexpr OpEntry kOps[] = {{"linear", linear}, {"embed", embed}};

}  // namespace

const OpTable& linear_ops() {
  static const OpTable table = {kOps, 2};
  return table;
}

}  // namespace pf::PF_ISA
