// The activation ops on a GPU (contract: ops/activation/activation.h), for float, f16 and bf16.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

// y[rows, cols] = silu(x[:, :cols]) * x[:, cols:], computed in float. Strides are elements between rows.
template <class T>
void silu_mul(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t cols, Stream stream);

// y[r] = x[rows[r]] for r < count.
template <class T>
void gather_rows(const T* x, int64_t x_stride, const int32_t* rows, T* y, int64_t y_stride, int64_t count, int64_t cols,
                 Stream stream);

}  // namespace pf::gpu
