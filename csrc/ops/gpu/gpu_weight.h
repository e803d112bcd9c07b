// Weights of the GPU backend. What a kernel reads of a weight in f32, f16 or bf16 has the type of the activations: it
// is converted once, when it is packed. Quantized weights stay what they are.
#pragma once
#include "../../gpu/memory_pool.h"
#include "../../runtime/backend.h"
#include "../linear/gpu/packed_weight.h"

namespace pf::gpu {

struct GpuWeight {
  int64_t rows = 0, cols = 0;
  WeightLayout layout;     // kPlain: data is [rows][cols] of `dtype`, else what pack_weight made
  int32_t dtype = PF_F32;  // PfDType
  char* data = nullptr;    // of the device
  size_t bytes = 0;

  bool is_plain() const { return layout.format == WeightFormat::kPlain; }
};

// Copies the parts to the device, waiting for it. std::invalid_argument for a format that there is no kernel for.
GpuWeight* pack_gpu_weight(Runtime& runtime, Stream stream, MemoryPool& memory, int32_t activations,
                           const PfWeightPart* parts, int32_t num_parts);

// Rows [row, row + rows) as numbers, waiting for them.
void fetch_gpu_rows(Runtime& runtime, Stream stream, const GpuWeight& weight, int64_t row, int64_t rows, float* out);

}  // namespace pf::gpu
