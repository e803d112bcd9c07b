// The op `linear` for activations of bf16.
#include "gemm_launch.h"

namespace pf::gpu {

template void linear(const LinearArgs<bf16>&, Stream);

}  // namespace pf::gpu
