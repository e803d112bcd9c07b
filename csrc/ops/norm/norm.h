// Contract of the normalisation ops.
//
//   rms_norm      in x[rows, groups * D]; vector w[D]; ints groups; floats eps
//                 out y: each group of D values of a row becomes (x / sqrt(mean(x^2) + eps)) * w
//   add           in a, b [rows, cols]; out a + b
//   add_rms_norm  in a, b; out s = a + b and y = rms_norm(s); parameters as rms_norm. Made by lowering only; the
//                 bits of s and y equal those of add followed by rms_norm.
//
// Determinism: a group belongs to one thread; its squares are summed in sixteen lanes in ascending order and then by
// the tree of reduce_add. An output may be the same memory as an input.
#pragma once
#include "../../runtime/backend.h"

namespace pf {
namespace {

struct NormParams {
  int64_t groups;
  float eps;
  explicit NormParams(const PfCall& call) : groups(call.ints[0]), eps(static_cast<float>(call.floats[0])) {}
};

}  // namespace
}  // namespace pf
