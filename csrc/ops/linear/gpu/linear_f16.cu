// The op `linear` for activations of f16.
#include "gemm_launch.h"

namespace pf::gpu {

template void linear(const LinearArgs<f16>&, Stream);

}  // namespace pf::gpu
