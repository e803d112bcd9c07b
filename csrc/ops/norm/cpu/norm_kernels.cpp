#include "../../cpu/kernels.h"
#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../norm.h"
#include "normalize.h"

namespace pf::PF_ISA {
namespace {

void add_values(const float* a, const float* b, int64_t n, float* sum) {
  for (int64_t i = 0; i < n; i += 16) store_left(sum + i, add(load_left(a + i, n - i), load_left(b + i, n - i)), n - i);
}

void normalize_row(const PfCall& call, const NormParams& params, const float* x, float* y) {
  const int64_t width = call.vector_len;
  for (int64_t g = 0; g < params.groups; ++g) normalize(x + g * width, call.vector, width, params.eps, y + g * width);
}

void rms_norm(const PfCall& call, const PfStep&, Worker& worker) {
  const NormParams params(call);
  worker.for_each(
      call.in[0].rows, [&](int64_t r) { normalize_row(call, params, input_row(call, 0, r), output_row(call, 0, r)); },
      rows_per_claim(call.in[0].cols));
}

void add_op(const PfCall& call, const PfStep&, Worker& worker) {
  worker.for_each(
      call.in[0].rows,
      [&](int64_t r) {
        add_values(input_row(call, 0, r), input_row(call, 1, r), call.in[0].cols, output_row(call, 0, r));
      },
      rows_per_claim(call.in[0].cols));
}

void add_rms_norm(const PfCall& call, const PfStep&, Worker& worker) {
  const NormParams params(call);
  worker.for_each(
      call.in[0].rows,
      [&](int64_t r) {
        float* sum = output_row(call, 0, r);
        add_values(input_row(call, 0, r), input_row(call, 1, r), call.in[0].cols, sum);
        normalize_row(call, params, sum, output_row(call, 1, r));
      },
      rows_per_claim(call.in[0].cols));
}

}  // namespace

const OpTable& norm_ops() {
  static const OpEntry entries[] = {{"rms_norm", rms_norm}, {"add", add_op}, {"add_rms_norm", add_rms_norm}};
  static const OpTable table = {entries, 3};
  return table;
}

}  // namespace pf::PF_ISA
