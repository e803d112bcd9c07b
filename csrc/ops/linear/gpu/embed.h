// The op `embed` on a GPU (contract: ops/linear/linear.h) for weights that are not quantized.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

// y[t] = weight[ids[t]] * scale for t < tokens; weight[vocab, cols] has dense rows. T: float, f16, bf16.
// An id outside the vocabulary gives NaNs: it is a mistake of the caller, but no reason to read foreign memory.
template <class T>
void embed(const T* weight, int64_t vocab, const int32_t* ids, T* y, int64_t y_stride, int64_t tokens, int64_t cols,
           float scale, Stream stream);

}  // namespace pf::gpu
