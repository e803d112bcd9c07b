// The op `linear` for activations of int8.
#include "gemm_launch.h"

namespace pf::gpu {

template void linear(const LinearArgs<int8_t>&, Stream);

}  // namespace pf::gpu
