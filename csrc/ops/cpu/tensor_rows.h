// Rows of the float32 activations of a call, and how many of them are worth one claim of the thread pool.
#pragma once
#include "../../runtime/backend.h"

namespace pf {
namespace {

inline const float* input_row(const PfCall& call, int i, int64_t row) {
  return static_cast<const float*>(call.in[i].data) + row * call.in[i].stride;
}
inline float* output_row(const PfCall& call, int i, int64_t row) {
  return static_cast<float*>(call.out[i].data) + row * call.out[i].stride;
}

// A claim is an atomic operation (about 50 ns when threads compete for it) and elementwise ops pass some 4 values a
// nanosecond: about 4,096 values keep it below a twentieth of the work.
inline int64_t rows_per_claim(int64_t cols) { return cols < 4096 ? (4096 + cols - 1) / (cols < 1 ? 1 : cols) : 1; }

}  // namespace
}  // namespace pf
