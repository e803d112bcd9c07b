// The angles of M-RoPE (Qwen2-VL: P. Wang et al., 2024): a token has three positions, time, height and width, and each
// pair of channels turns by one of them. rope_cache() in cache.h then is that of ordinary RoPE.
#pragma once
#include "../../../gpu/gpu.h"

namespace pf::gpu {

struct MropeArgs {
  const int32_t* positions;  // [3][tokens]
  const float* inv_freq;     // [half]
  float* cs;                 // [tokens, cs_stride], of which the first 2 half: cos, then sin, as rope_angles() writes
  int64_t cs_stride, tokens;
  int half;
  int sections[3];   // pairs of each axis; they sum to half
  bool interleaved;  // axes take turns (t h w t h w ...) for as long as their sections last, and time the rest
                     // (Qwen3-VL)
  double scale;      // of cos and sin
};

// rope_angles() in cache.h is the case of one section.
void mrope_angles(const MropeArgs& args, Stream stream);

}  // namespace pf::gpu
