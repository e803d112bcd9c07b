// The ops linear and lm_head, linear with its neighbours fused in, and embed: who computes which tile for which rows.
#include "../../activation/cpu/silu.h"
#include "../../cpu/kernels.h"
#include "../../cpu/tensor_rows.h"
#include "../../norm/cpu/normalize.h"
#include "../../sample/sample.h"
#include "packed.h"
#include "tile_kernels.h"

namespace pf::PF_ISA {
namespace {

// Rows of one item of work. Their activations (128 * 1,536 * 44 / 32 bytes = 270 kB in a small model) should stay in
// the second-level cache while tiles pass by, and unpacking a tile should be paid for by many of them.
constexpr int64_t kItemRows = 128;
// Rows whose outputs of a quantized weight are stored before the next ones are computed: those of one pass of a kernel.
// Lines of the output are seldom in the cache; stored pass by pass, they arrive while the next one computes. AVX2
// unpacks a tile for all rows of an item.
constexpr int64_t kStoreRows = PF_ISA_LEVEL == PF_ISA_avx512 ? 8 : kItemRows;
// With few threads, each multiplies the rows that it prepared itself, instead of columns: rows come out of the other
// cores' caches slowly. It reads (AVX2: unpacks) all of the weights for that, so it takes some rows at least, in whole
// passes. Of two threads that takes 2 % off a step of 16 to 64 rows and 6 % off one of 128; more were not tried.
constexpr int kRowSplitThreads = 4;
constexpr int64_t kRowSplitLeast = PF_ISA_LEVEL == PF_ISA_avx512 ? 8 : 32;
constexpr int64_t kPassRows = 8;
constexpr size_t kOutBytes = kItemRows * kFloatStrip * kTile * sizeof(float);  // of one half

// Up to so many values of x are prepared by each thread for itself: that takes half a microsecond at most, and waiting
// for each other after sharing it out takes as long. Four rows of 576 are 2 % faster shared, one of 1,536 is not.
constexpr int64_t kOwnValues = 2048;

// A row of logits is narrow if its mask has bits in at most one of so many tiles. Narrow rows with nothing in common
// are multiplied one by one, so that a tile costs each of them about as much as eight rows at once (49,152 x 576, Q8_0,
// VNNI: 1.2 ms one row, 1.4 ms eight). At a sixteenth any number of rows gains; masks of JSON outside of strings have
// bits in less than a fiftieth.
constexpr int64_t kNarrowShare = 16;

constexpr size_t round64(size_t bytes) { return (bytes + 63) / 64 * 64; }

const PackedWeight& weight_of(const PfCall& call) { return *reinterpret_cast<const PackedWeight*>(call.weight); }

// What an op of the family does around the product.
struct Around {
  bool norm = false;      // x is normalized first; call.vector is the weight of the norm, and there is no bias
  bool silu_mul = false;  // the output is silu of the left half of the columns times the right half
  bool add = false;       // input 1 is added to the output
};

// Neighbouring tiles of one format. Of silu_mul they belong to the left half, and `right` are their counterparts.
struct Segment {
  int32_t format;
  int64_t column, columns, tiles;
  size_t tile_bytes;
  const uint8_t *data, *right;

  int64_t strip_tiles() const { return is_quantized(format) ? 1 : kFloatStrip; }
  int64_t strips() const { return (tiles + strip_tiles() - 1) / strip_tiles(); }
};

// Whether the two halves of the rows of W are made of the same tiles, so that an item can take a strip of both.
bool halves_match(const PackedWeight& weight) {
  if (weight.num_parts == 1) return weight.rows % (2 * kTile * kFloatStrip) == 0;
  const int32_t half = weight.num_parts / 2;
  for (int32_t i = 0; i < half; ++i) {
    const PackedPart &left = weight.parts[i], &right = weight.parts[half + i];
    if (left.rows != right.rows || left.format != right.format) return false;
  }
  return weight.num_parts % 2 == 0;
}

struct Plan {
  const PackedWeight& weight;
  const Around around;
  const int64_t rows, cols, groups;
  const bool paired;  // silu_mul happens where the tiles are multiplied
  int32_t segments;
  int64_t strips = 0;                          // of all segments
  bool quantized = false, has_floats = false;  // any part
  size_t panel_bytes = 0;                      // room for the unpacked tile of any part
  int64_t item_rows = kItemRows;

  Plan(const PfCall& call, const Around& wanted, int threads)
      : weight(weight_of(call)),
        around(wanted),
        rows(call.in[0].rows),
        cols(weight.cols),
        groups(weight.cols / kGroup),
        paired(wanted.silu_mul && halves_match(weight)),
        segments(paired && weight.num_parts > 1 ? weight.num_parts / 2 : weight.num_parts) {
    for (int32_t i = 0; i < segments; ++i) {
      const Segment part = segment(i);
      strips += part.strips();
      if (!is_quantized(part.format)) {
        has_floats = true;
        continue;
      }
      quantized = true;
      const size_t bytes = static_cast<size_t>(groups) * quantized_kernel(part.format).panel_bytes;
      if (bytes > panel_bytes) panel_bytes = bytes;
    }
    if (!has_floats && threads <= kRowSplitThreads && rows >= kRowSplitLeast * threads) {
      const int64_t each = (rows + kPassRows * threads - 1) / (kPassRows * threads) * kPassRows;
      if (each < kItemRows) item_rows = each;
    }
  }

  Segment segment(int32_t i) const {
    const PackedPart& part = weight.parts[i];
    Segment all = {part.format, part.first_row, part.rows, part.tiles, part.tile_bytes, part.data, nullptr};
    if (!paired) return all;
    if (weight.num_parts > 1) {
      all.right = weight.parts[segments + i].data;
    } else {
      all.columns /= 2, all.tiles /= 2;
      all.right = all.data + static_cast<size_t>(all.tiles) * all.tile_bytes;
    }
    return all;
  }

  // What the kernels read of all rows: their groups, and where a norm made them and a part has floats, those.
  size_t group_bytes() const {
    return quantized ? round64(static_cast<size_t>(rows * groups) * sizeof(ActivationGroup)) : 0;
  }
  size_t operand_bytes(bool copy_floats) const {
    return group_bytes() + (copy_floats ? round64(static_cast<size_t>(rows * cols) * sizeof(float)) : 0);
  }
  bool copies_floats() const { return around.norm && has_floats; }

  // Memory of a thread: outputs of a strip (of both halves), the panel, a normalized row.
  size_t panel_at() const { return 2 * kOutBytes; }
  size_t row_at() const { return panel_at() + round64(panel_bytes); }
  size_t operands_at() const {
    return row_at() + (around.norm ? round64(static_cast<size_t>(cols) * sizeof(float)) : 0);
  }

  int64_t items() const { return strips * ((rows + item_rows - 1) / item_rows); }

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

// What of the rows the kernels of the weight's formats read, in the order of the rows.
struct Operands {
  ActivationGroup* groups = nullptr;
  const float* x = nullptr;
  int64_t x_stride = 0;
};

Operands operands_in(uint8_t* memory, const Plan& plan) {
  return {reinterpret_cast<ActivationGroup*>(memory), reinterpret_cast<const float*>(memory + plan.group_bytes()),
          plan.cols};
}

// Writes the groups [begin, end) of the row at `place` and, if it is copied, all of its floats. Groups of a row that is
// normalized are made together. `row_memory` is room for a row.
void prepare_row(const PfCall& call, const Plan& plan, const float* x, int64_t place, int64_t begin, int64_t end,
                 bool copy_floats, float* row_memory, const Operands& out) {
  if (copy_floats) row_memory = const_cast<float*>(out.x) + place * plan.cols;
  if (plan.around.norm) {
    normalize(x, call.vector, plan.cols, static_cast<float>(call.floats[0]), row_memory);
    x = row_memory;
  } else if (copy_floats) {
    memcpy(row_memory, x, static_cast<size_t>(plan.cols) * sizeof(float));
  }
  if (!plan.quantized) return;
  for (int64_t g = begin; g < end; ++g) quantize_group(x + g * kGroup, out.groups + place * plan.groups + g);
}

void prepare_rows(const PfCall& call, const Plan& plan, const RowOrder& rows, bool copy_floats, const Operands& out,
                  Worker& worker) {
  auto* row_memory =
      reinterpret_cast<float*>(static_cast<uint8_t*>(worker.scratch(plan.operands_at())) + plan.row_at());
  constexpr int64_t kPiece = 16;  // groups of one claim
  const bool whole = plan.around.norm || copy_floats;
  const int64_t pieces = whole ? 1 : (plan.groups + kPiece - 1) / kPiece;
  const int64_t size = whole ? plan.groups : kPiece;
  worker.for_each(plan.rows * pieces, [&](int64_t i) {
    const int64_t place = i / pieces, begin = i % pieces * size;
    const int64_t end = begin + size < plan.groups ? begin + size : plan.groups;
    prepare_row(call, plan, input_row(call, 0, rows.row(place)), place, begin, end, copy_floats, row_memory, out);
  });
}

// Adds the bias and what else comes after the product, and writes the columns that exist. `left` is [count][width], of
// the rows from `place` on, and `right` its counterpart where the halves are multiplied.
void store_outputs(const PfCall& call, const Plan& plan, const RowOrder& rows, int64_t place, int64_t count,
                   int64_t column, int64_t columns, int64_t width, const float* left, const float* right) {
  const float* bias = plan.around.norm ? nullptr : call.vector;
  for (int64_t c = 0; c < columns; c += kTile) {
    const int64_t n = columns - c;
    const F16x left_bias = bias == nullptr ? zero() : load_left(bias + column + c, n);
    const F16x right_bias =
        bias == nullptr || !plan.paired ? zero() : load_left(bias + plan.weight.rows / 2 + column + c, n);
    for (int64_t r = 0; r < count; ++r) {
      F16x y = load(left + r * width + c);
      if (bias != nullptr) y = add(y, left_bias);
      if (plan.paired) {
        F16x factor = load(right + r * width + c);
        if (bias != nullptr) factor = add(factor, right_bias);
        y = mul(silu(y), factor);
      }
      const int64_t row = rows.row(place + r);
      if (plan.around.add) y = add(load_left(input_row(call, 1, row) + column + c, n), y);
      store_left(output_row(call, 0, row) + column + c, y, n);
    }
  }
}

// All rows, one strip after another; of the rows after the wide ones only the strips that they want. `operands` is null
// if each thread is to prepare them for itself.
void multiply(const PfCall& call, const Plan& plan, const RowOrder& rows, const Operands* shared, Worker& worker) {
  const size_t own_bytes = shared == nullptr ? plan.operand_bytes(plan.copies_floats()) : 0;
  auto* memory = static_cast<uint8_t*>(worker.scratch(plan.operands_at() + own_bytes));
  auto* left = reinterpret_cast<float*>(memory);
  auto* right = reinterpret_cast<float*>(memory + kOutBytes);
  uint8_t* panel = memory + plan.panel_at();
  bool prepared = shared != nullptr;
  Operands operands = prepared ? *shared : operands_in(memory + plan.operands_at(), plan);
  if (!prepared && !plan.copies_floats()) operands.x = input_row(call, 0, 0), operands.x_stride = call.in[0].stride;

  const auto run_item = [&](int64_t item) {
    if (!prepared) {  // inside of an item, since x may be read there only
      auto* row_memory = reinterpret_cast<float*>(memory + plan.row_at());
      for (int64_t row = 0; row < plan.rows; ++row) {
        prepare_row(call, plan, input_row(call, 0, row), row, 0, plan.groups, plan.copies_floats(), row_memory,
                    operands);
      }
      prepared = true;
    }
    const int64_t first = item / plan.strips * plan.item_rows;
    const int64_t last = plan.rows - first < plan.item_rows ? plan.rows : first + plan.item_rows;
    int64_t strip = item % plan.strips;
    Segment part = plan.segment(0);
    for (int32_t i = 0; strip >= part.strips(); part = plan.segment(++i)) strip -= part.strips();

    const int64_t tile = strip * part.strip_tiles();
    const size_t offset = static_cast<size_t>(tile) * part.tile_bytes;
    const int64_t tiles = part.tiles - tile < part.strip_tiles() ? part.tiles - tile : part.strip_tiles();
    const int64_t column = part.column + tile * kTile, remaining = part.columns - tile * kTile;
    const int64_t width = tiles * kTile, columns = remaining < width ? remaining : width;
    const auto dot = [&](const uint8_t* data, int64_t begin, int64_t end, float* out) {
      if (is_quantized(part.format)) {
        quantized_kernel(part.format)
            .run(data + offset, plan.groups, operands.groups + begin * plan.groups, end - begin, panel, out);
      } else {
        float_kernel(part.format)(data + offset, part.tile_bytes, static_cast<int>(tiles), plan.cols,
                                  operands.x + begin * operands.x_stride, operands.x_stride, end - begin, out);
      }
    };
    const int64_t most = is_quantized(part.format) ? kStoreRows : kItemRows;
    for (int64_t begin = first, end; begin < last; begin = end) {
      end = begin + 1;
      if (!rows.wants(begin, column, columns)) continue;
      if (begin < rows.wide) end = rows.wide < last ? rows.wide : last;
      while (end < last && rows.wants(end, column, columns)) ++end;
      if (end - begin > most) end = begin + next_block(end - begin, most);
      dot(part.data, begin, end, left);
      if (plan.paired) dot(part.right, begin, end, right);
      store_outputs(call, plan, rows, begin, end - begin, column, columns, width, left, right);
    }
  };
  worker.for_each(plan.items(), run_item, plan.chunk(worker.num_threads()));
}

// y = silu(x[:, :I]) * x[:, I:], where multiply could not do it.
void multiply_halves(const PfTensor& x, const PfTensor& y, Worker& worker) {
  worker.for_each(
      x.rows,
      [&](int64_t r) {
        const float *left = static_cast<const float*>(x.data) + r * x.stride, *right = left + y.cols;
        float* out = static_cast<float*>(y.data) + r * y.stride;
        for (int64_t c = 0; c < y.cols; c += kTile) {
          const int64_t n = y.cols - c;
          store_left(out + c, mul(silu(load_left(left + c, n)), load_left(right + c, n)), n);
        }
      },
      rows_per_claim(x.cols));
}

void linear_with(const PfCall& call, const Around& around, Worker& worker) {
  const Plan plan(call, around, worker.num_threads());
  const RowOrder rows = {.wide = plan.rows};
  const bool prepares = plan.quantized || around.norm;
  const bool own = prepares && plan.rows * plan.cols <= kOwnValues;
  const bool halves_later = around.silu_mul && !plan.paired;
  const size_t operand_bytes = prepares && !own ? plan.operand_bytes(plan.copies_floats()) : 0;
  const size_t whole_bytes = halves_later ? static_cast<size_t>(plan.rows * plan.weight.rows) * sizeof(float) : 0;
  uint8_t* shared = nullptr;
  if (operand_bytes + whole_bytes > 0) shared = static_cast<uint8_t*>(worker.shared(operand_bytes + whole_bytes));

  PfCall product = call;
  if (halves_later) {
    product.out[0] = {shared + operand_bytes, plan.rows, plan.weight.rows, plan.weight.rows, PF_F32};
  }
  Operands operands = {.x = input_row(call, 0, 0), .x_stride = call.in[0].stride};
  if (operand_bytes > 0) {
    const Operands prepared = operands_in(shared, plan);
    if (plan.copies_floats()) operands = prepared;
    operands.groups = prepared.groups;
    prepare_rows(call, plan, rows, plan.copies_floats(), operands, worker);
    worker.finish();
  }
  multiply(product, plan, rows, own ? nullptr : &operands, worker);
  if (halves_later) {
    worker.finish();
    multiply_halves(product.out[0], call.out[0], worker);
  }
}

void linear(const PfCall& call, const PfStep&, Worker& worker) { linear_with(call, {}, worker); }
void linear_add(const PfCall& call, const PfStep&, Worker& worker) { linear_with(call, {.add = true}, worker); }
void linear_silu_mul(const PfCall& call, const PfStep&, Worker& worker) {
  linear_with(call, {.silu_mul = true}, worker);
}
void rms_norm_linear(const PfCall& call, const PfStep&, Worker& worker) { linear_with(call, {.norm = true}, worker); }
void rms_norm_linear_silu_mul(const PfCall& call, const PfStep&, Worker& worker) {
  linear_with(call, {.norm = true, .silu_mul = true}, worker);
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
  const Plan plan(call, {}, worker.num_threads());
  bool any = false;
  for (int64_t row = 0; row < plan.rows && !any; ++row) any = only_allowed(step, row) != nullptr;
  if (!any) return linear(call, step, worker);

  // Shared by the threads: the order of the rows, then what the kernels read.
  const size_t masks_bytes = round64(static_cast<size_t>(plan.rows) * sizeof(uint32_t*));
  const size_t order_bytes = 64 + masks_bytes + round64(static_cast<size_t>(plan.rows) * sizeof(int32_t));
  auto* shared = static_cast<uint8_t*>(worker.shared(order_bytes + plan.operand_bytes(plan.has_floats)));
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

  const Operands operands = operands_in(shared + order_bytes, plan);
  prepare_rows(call, plan, rows, plan.has_floats, operands, worker);
  worker.finish();
  multiply(call, plan, rows, &operands, worker);
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

constexpr OpEntry kOps[] = {{"linear", linear},
                            {"linear_add", linear_add},
                            {"linear_silu_mul", linear_silu_mul},
                            {"rms_norm_linear", rms_norm_linear},
                            {"rms_norm_linear_silu_mul", rms_norm_linear_silu_mul},
                            {"lm_head", lm_head},
                            {"embed", embed}};

}  // namespace

const OpTable& linear_ops() {
  static const OpTable table = {kOps, sizeof kOps / sizeof *kOps};
  return table;
}

}  // namespace pf::PF_ISA
