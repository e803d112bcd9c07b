// Weights of the GPU backend. Activations are float there, and so is what a kernel reads of a weight in f32, f16 or
// bf16: it is widened once, when it is packed.
#pragma once
#include "../../gpu/memory_pool.h"
#include "../../runtime/backend.h"

namespace pf::gpu {

struct GpuWeight {
  int64_t rows = 0, cols = 0;
  float* values = nullptr;  // [rows, cols], of the device

  size_t bytes() const { return static_cast<size_t>(rows * cols) * sizeof(float); }
};

// Copies the parts to the device, waiting for it. std::invalid_argument for a format that there is no kernel for.
GpuWeight* pack_gpu_weight(Runtime& runtime, Stream stream, MemoryPool& memory, const PfWeightPart* parts,
                           int32_t num_parts);

}  // namespace pf::gpu
