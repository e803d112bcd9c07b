// The op `linear` for activations of float.
#include "gemm_launch.h"

namespace pf::gpu {

template void linear(const LinearArgs<float>&, Stream);

}  // namespace pf::gpu
