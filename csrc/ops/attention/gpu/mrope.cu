#include "mrope.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

// Which position turns pair i.
GPU_DEVICE int axis_of(const MropeArgs& args, int i) {
  if (args.interleaved) {
    const int axis = i % 3;
    return axis != 0 && i < 3 * args.sections[axis] ? axis : 0;
  }
  if (i < args.sections[0]) return 0;
  return i < args.sections[0] + args.sections[1] + (GPU_PLANTED("rope_angles: a pair too far") ? 1 : 0) ? 1 : 2;
}

// One block a token.
GPU_KERNEL(kThreads)
void rope_angles_kernel(MropeArgs args) {
  const int64_t token = block_x();
  float* row = args.cs + token * args.cs_stride;
  for (int i = static_cast<int>(thread_x()); i < args.half || GPU_PLANTED("rope_angles: past the row"); i += kThreads) {
    // A float product would be wrong by up to 2^-24 of the angle: 0.005 radians at position 100,000.
    const double angle = static_cast<double>(args.positions[axis_of(args, i) * args.tokens + token]) *
                         static_cast<double>(args.inv_freq[i]);
    row[i] = static_cast<float>(cos(angle) * args.scale);
    row[args.half + i] = static_cast<float>(sin(angle) * args.scale);
  }
}

}  // namespace

void mrope_angles(const MropeArgs& args, Stream stream) {
  if (args.tokens == 0) return;
  GPU_LAUNCH(rope_angles_kernel, Dim3{static_cast<unsigned>(args.tokens)}, kThreads, 0, stream, args);
}

}  // namespace pf::gpu
