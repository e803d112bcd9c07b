// The ops linear, lm_head and embed: who computes which tile for which rows.
#include "../../cpu/kernels.h"
#include "../../cpu/tensor_rows.h"
#include "../../sample/sample.h"
#include "packed.h"
#include "tile_kernels.h"

namespace pf::PF_ISA {
namespace {

// Rows of one item of work. Their activations (128 * 1,536 * 44 / 32 bytes = 270 kB in a small model) should stay in
// the second-level cache while tiles pass by, and unpacking a tile should be paid for by many of them.
constexpr int64_t kItemRows = 128;
constexpr size_t kOutBytes = kItemRows * kFloatStrip * kTile * sizeof(float);

// A row of logits is narrow if its mask has bits in at most one of so many tiles. Narrow rows with nothing in common
// are multiplied one by one, so that a tile costs each of them about as much as eight rows at once (49,152 x 576, Q8_0,
// VNNI: 1.2 ms one row, 1.4 ms eight). At a sixteenth any number of rows gains; masks of JSON outside of strings have
// bits in less than a fiftieth.
constexpr int64_t kNarrowShare = 16;

constexpr size_t round64(size_t bytes) { return (bytes + 63) / 64 * 64; }

const PackedWeight& weight_of(const PfCall& call) { return *reinterpret_cast<const PackedWeight*>(call.weight); }

int64_t strip_tiles(const PackedPart& part) { return is_quantized(part.format) ? 1 : kFloatStrip; }
int64_t num_strips(const PackedPart& part) { return (part.tiles + strip_tiles(part) - 1) / strip_tiles(part); }

struct Plan {
  const PackedWeight& weight;
  int64_t rows, groups;
  int64_t strips = 0;                          // of all parts
  bool quantized = false, has_floats = false;  // any part
  size_t panel_bytes = 0;                      // room for the unpacked tile of any part

  explicit Plan(const PfCall& call) : weight(weight_of(call)), rows(call.in[0].rows), groups(weight.cols / kGroup) {
    for (int32_t i = 0; i < weight.num_parts; ++i) {
      const PackedPart& part = weight.parts[i];
      strips += num_strips(part);
      if (!is_quantized(part.format)) {
        has_floats = true;
        continue;
      }
      quantized = true;
      const size_t bytes = static_cast<size_t>(groups) * quantized_kernel(part.format).panel_bytes;
      if (bytes > panel_bytes) panel_bytes = bytes;
    }
  }
  size_t group_bytes() const { return static_cast<size_t>(rows * groups) * sizeof(ActivationGroup); }
  int64_t items() const { return strips * ((rows + kItemRows - 1) / kItemRows); }

  // Enough claims to even out threads of different speed, but no more: each is an atomic operation.
  int64_t chunk(int threads) const {
    const int64_t share = items() / (16 * threads);
    return share < 1 ? 1 : share > 16 ? 16 : share;
  }
};

// In which order the rows of a call are worked off, and what is wanted of them. The first `wide` want every column, of
// those after them `masks` says which.
struct RowOrder {
  const int32_t* order = nullptr;          // null: as they come, and all wide
  const int64_t& wide;                     // shared by the threads, as all of this
  const uint32_t* const* masks = nullptr;  // by place in the order
  int64_t vocab = 0;                       // tokens that masks have a bit for

  int64_t row(int64_t place) const { return order == nullptr ? place : order[place]; }

  // Whether the row at `place` wants any of `count` <= 32 columns.
  bool wants(int64_t place, int64_t column, int64_t count) const {
    if (place < wide) return true;
    if (column >= vocab) return false;
    const uint32_t* words = masks[place] + column / 32;
    const uint64_t next = column / 32 + 1 < (vocab + 31) / 32 ? words[1] : 0;
    const uint64_t bits = (words[0] | next << 32) >> (column % 32);
    return (bits & ((uint64_t{1} << count) - 1)) != 0;
  }
};

// Memory shared by the threads of a call: what of the rows the kernels of its formats read, in the order of the rows.
struct Operands {
  ActivationGroup* groups = nullptr;
  const float* x = nullptr;
  int64_t x_stride = 0;
};

void quantize_rows(const PfCall& call, const Plan& plan, const RowOrder& rows, ActivationGroup* groups,
                   Worker& worker) {
  constexpr int64_t kPiece = 16;  // groups of one claim
  const int64_t pieces = (plan.groups + kPiece - 1) / kPiece;
  worker.for_each(plan.rows * pieces, [&](int64_t i) {
    const int64_t place = i / pieces, begin = i % pieces * kPiece;
    const int64_t end = begin + kPiece < plan.groups ? begin + kPiece : plan.groups;
    const float* x = input_row(call, 0, rows.row(place));
    for (int64_t g = begin; g < end; ++g) quantize_group(x + g * kGroup, groups + place * plan.groups + g);
  });
}

// Adds the bias and writes the columns that exist. `out` is [count][width], of the rows from `place` on.
void store_outputs(const PfCall& call, const RowOrder& rows, int64_t place, int64_t count, int64_t column,
                   int64_t columns, int64_t width, const float* out) {
  for (int64_t c = 0; c < columns; c += kTile) {
    const int64_t n = columns - c < kTile ? columns - c : kTile;
    const F16x bias = call.vector == nullptr ? zero() : load_partial(call.vector + column + c, n, 0.0f);
    for (int64_t r = 0; r < count; ++r) {
      const F16x sum = load(out + r * width + c);
      const F16x y = call.vector == nullptr ? sum : add(sum, bias);
      float* to = output_row(call, 0, rows.row(place + r)) + column + c;
      if (n == kTile) {
        store(to, y);
      } else {
        store_partial(to, y, n);
      }
    }
  }
}

// All rows, one strip after another; of the rows after the wide ones only the strips that they want.
void multiply(const PfCall& call, const Plan& plan, const RowOrder& rows, const Operands& operands, Worker& worker) {
  auto* out = static_cast<float*>(worker.scratch(kOutBytes + plan.panel_bytes));
  uint8_t* panel = reinterpret_cast<uint8_t*>(out) + kOutBytes;

  const auto run_item = [&](int64_t item) {
    const int64_t first = item / plan.strips * kItemRows;
    const int64_t last = plan.rows - first < kItemRows ? plan.rows : first + kItemRows;
    int64_t strip = item % plan.strips;
    const PackedPart* part = plan.weight.parts;
    for (; strip >= num_strips(*part); ++part) strip -= num_strips(*part);

    const int64_t tile = strip * strip_tiles(*part);
    const uint8_t* data = part->data + static_cast<size_t>(tile) * part->tile_bytes;
    const int64_t tiles = part->tiles - tile < strip_tiles(*part) ? part->tiles - tile : strip_tiles(*part);
    const int64_t column = part->first_row + tile * kTile, left = part->rows - tile * kTile;
    const int64_t width = tiles * kTile, columns = left < width ? left : width;
    for (int64_t begin = first, end; begin < last; begin = end) {
      end = begin + 1;
      if (!rows.wants(begin, column, columns)) continue;
      if (begin < rows.wide) end = rows.wide < last ? rows.wide : last;
      while (end < last && rows.wants(end, column, columns)) ++end;
      if (is_quantized(part->format)) {
        quantized_kernel(part->format)
            .run(data, plan.groups, operands.groups + begin * plan.groups, end - begin, panel, out);
      } else {
        float_kernel(part->format)(data, part->tile_bytes, static_cast<int>(tiles), plan.weight.cols,
                                   operands.x + begin * operands.x_stride, operands.x_stride, end - begin, out);
      }
      store_outputs(call, rows, begin, end - begin, column, columns, width, out);
    }
  };
  worker.for_each(plan.items(), run_item, plan.chunk(worker.num_threads()));
}

void linear(const PfCall& call, const PfStep&, Worker& worker) {
  const Plan plan(call);
  const RowOrder rows = {.wide = plan.rows};
  Operands operands = {.x = input_row(call, 0, 0), .x_stride = call.in[0].stride};
  if (plan.quantized) {
    operands.groups = static_cast<ActivationGroup*>(worker.shared(plan.group_bytes()));
    quantize_rows(call, plan, rows, operands.groups, worker);
    worker.finish();
  }
  multiply(call, plan, rows, operands, worker);
}

// Whether a mask wants so few columns that they are worth picking out. Whole masks, as those inside of strings, pass
// the limit after a few words.
bool is_narrow(const uint32_t* mask, int64_t vocab) {
  const int64_t most = (vocab + kTile * kNarrowShare - 1) / (kTile * kNarrowShare);
  int64_t tiles = 0;
  for (int64_t word = 0; word < (vocab + 31) / 32; ++word) {
    tiles += ((mask[word] & 0xffffu) != 0) + (mask[word] >> 16 != 0);
    if (tiles > most) return false;
  }
  return true;
}

void lm_head(const PfCall& call, const PfStep& step, Worker& worker) {
  const Plan plan(call);
  bool any = false;
  for (int64_t row = 0; row < plan.rows && !any; ++row) any = only_allowed(step, row) != nullptr;
  if (!any) return linear(call, step, worker);

  // Shared by the threads: the order of the rows, then what the kernels read.
  const size_t masks_bytes = round64(static_cast<size_t>(plan.rows) * sizeof(uint32_t*));
  const size_t order_bytes = 64 + masks_bytes + round64(static_cast<size_t>(plan.rows) * sizeof(int32_t));
  const size_t group_bytes = plan.quantized ? round64(plan.group_bytes()) : 0;
  const size_t x_bytes = plan.has_floats ? static_cast<size_t>(plan.rows * plan.weight.cols) * sizeof(float) : 0;
  auto* shared = static_cast<uint8_t*>(worker.shared(order_bytes + group_bytes + x_bytes));
  auto* wide = reinterpret_cast<int64_t*>(shared);
  auto* masks = reinterpret_cast<const uint32_t**>(shared + 64);
  auto* order = reinterpret_cast<int32_t*>(shared + 64 + masks_bytes);
  worker.for_each(1, [&](int64_t) {
    int64_t first = 0, last = plan.rows;  // wide rows from the front on, narrow ones from the end
    for (int64_t row = 0; row < plan.rows; ++row) {
      const uint32_t* mask = only_allowed(step, row);
      const bool narrow = mask != nullptr && is_narrow(mask, step.sampling.vocab);
      const int64_t place = narrow ? --last : first++;
      masks[place] = mask;
      order[place] = static_cast<int32_t>(row);
    }
    *wide = first;
  });
  worker.finish();
  const RowOrder rows = {order, *wide, masks, step.sampling.vocab};

  auto* groups = reinterpret_cast<ActivationGroup*>(shared + order_bytes);
  auto* x = reinterpret_cast<float*>(shared + order_bytes + group_bytes);
  if (plan.quantized) quantize_rows(call, plan, rows, groups, worker);
  if (plan.has_floats) {
    worker.for_each(plan.rows, [&](int64_t i) {
      memcpy(x + i * plan.weight.cols, input_row(call, 0, order[i]), plan.weight.cols * sizeof(float));
    });
  }
  worker.finish();
  multiply(call, plan, rows, {groups, x, plan.weight.cols}, worker);
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

constexpr OpEntry kOps[] = {{"linear", linear}, {"lm_head", lm_head}, {"embed", embed}};

}  // namespace

const OpTable& linear_ops() {
  static const OpTable table = {kOps, 3};
  return table;
}

}  // namespace pf::PF_ISA
