// The op `linear` for activations of e4m3.
#include "gemm_launch.h"

namespace pf::gpu {

template void linear(const LinearArgs<e4m3>&, Stream);

}  // namespace pf::gpu
