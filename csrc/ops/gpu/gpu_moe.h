// The ops of a mixture of experts in the table of the GPU backend (contract: ops/moe/moe.h).
#pragma once
#include "gpu_ops.h"

namespace pf::gpu {

void launch_moe_gate_up(const PfCall& call, const GpuStep& step, Stream stream);
void launch_moe_down(const PfCall& call, const GpuStep& step, Stream stream);

// Floats of GpuStep::partials that they need.
size_t moe_gate_up_scratch(const PfCall& call, const GpuStep& step);
size_t moe_down_scratch(const PfCall& call, const GpuStep& step);

}  // namespace pf::gpu
