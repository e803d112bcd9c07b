#include <string.h>

#include "../../cpu/kernels.h"
#include "../../cpu/tensor_rows.h"
#include "silu.h"

namespace pf::PF_ISA {
namespace {

// A row is cut into tiles, so that a decode step of one row occupies more than one thread.
constexpr int64_t kTileCols = 512;

void silu_mul(const PfCall& call, const PfStep&, Worker& worker) {
  const int64_t cols = call.out[0].cols;
  const int64_t tiles = (cols + kTileCols - 1) / kTileCols;
  worker.for_each(call.out[0].rows * tiles, [&](int64_t i) {
    const float* gate = input_row(call, 0, i / tiles);
    const float* up = gate + cols;
    float* y = output_row(call, 0, i / tiles);
    const int64_t begin = i % tiles * kTileCols;
    const int64_t end = begin + kTileCols < cols ? begin + kTileCols : cols;
    int64_t c = begin;
    for (; c + 16 <= end; c += 16) store(y + c, mul(silu(load(gate + c)), load(up + c)));
    if (c < end) {
      const int64_t n = end - c;
      store_partial(y + c, mul(silu(load_partial(gate + c, n, 0.0f)), load_partial(up + c, n, 0.0f)), n);
    }
  });
}

void gather_rows(const PfCall& call, const PfStep& step, Worker& worker) {
  const size_t bytes = static_cast<size_t>(call.in[0].cols) * sizeof(float);
  worker.for_each(
      step.num_rows, [&](int64_t r) { memcpy(output_row(call, 0, r), input_row(call, 0, step.logits_rows[r]), bytes); },
      rows_per_claim(call.in[0].cols));
}

}  // namespace

const OpTable& activation_ops() {
  static const OpEntry entries[] = {{"silu_mul", silu_mul}, {"gather_rows", gather_rows}};
  static const OpTable table = {entries, 2};
  return table;
}

}  // namespace pf::PF_ISA
