// The op `sample` on a GPU; its contract is ops/sample/sample.h.
#pragma once
#include "../../../gpu/gpu.h"
#include "../../../runtime/backend.h"

namespace pf::gpu {

struct SampleArgs {
  const float* logits;  // [rows, >= vocab]
  int64_t stride;       // elements between rows
  int rows;
  bool copy_logits;     // of all rows to sampled.logits_out, not only of deferred ones
  PfSampling sampling;  // all pointers, here and below, are the device's
  PfSampled sampled;
  float* scratch;  // [rows][vocab]
};

void sample(const SampleArgs& args, Stream stream);

}  // namespace pf::gpu
