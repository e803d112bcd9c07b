#include <math.h>
#include <string.h>

#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../attention.h"
#include "attention_ops.h"

namespace pf::PF_ISA {
namespace {

void rotate_halves(const float* x, const float* cs, int64_t rot, float* y) {
  const int64_t half = rot / 2;
  const float *cosines = cs, *sines = cs + half;
  int64_t i = 0;
  for (; i + 16 <= half; i += 16) {
    const F16x a = load(x + i), b = load(x + half + i), c = load(cosines + i), s = load(sines + i);
    store(y + i, sub(mul(a, c), mul(b, s)));
    store(y + half + i, add(mul(b, c), mul(a, s)));
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    y[i] = a * cosines[i] - b * sines[i];
    y[half + i] = b * cosines[i] + a * sines[i];
  }
}

void rotate_pairs(const float* x, const float* cs, int64_t rot, float* y) {
  const int64_t half = rot / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = a * cs[i] - b * cs[half + i];
    y[2 * i + 1] = b * cs[i] + a * cs[half + i];
  }
}

}  // namespace

void rope_angles(const PfCall& call, const PfStep& step, Worker& worker) {
  const int64_t half = call.vector_len;
  const double scale = call.floats[0];
  worker.for_each(step.num_tokens, [&](int64_t t) {
    float* cs = output_row(call, 0, t);
    const double position = step.positions[t];
    for (int64_t i = 0; i < half; ++i) {
      // A float product would be wrong by up to 2^-24 of the angle: 0.005 radians at position 100,000.
      const double angle = position * static_cast<double>(call.vector[i]);
      cs[i] = static_cast<float>(::cos(angle) * scale);
      cs[half + i] = static_cast<float>(::sin(angle) * scale);
    }
  });
}

void rope(const PfCall& call, const PfStep&, Worker& worker) {
  const RopeParams params(call);
  const auto rotate = params.interleaved ? rotate_pairs : rotate_halves;
  const size_t rest = static_cast<size_t>(params.head_dim - params.rot_dim) * sizeof(float);
  worker.for_each(
      call.in[0].rows,
      [&](int64_t t) {
        const float* cs = input_row(call, 1, t);
        for (int64_t h = 0; h < params.heads; ++h) {
          const float* x = input_row(call, 0, t) + h * params.head_dim;
          float* y = output_row(call, 0, t) + h * params.head_dim;
          rotate(x, cs, params.rot_dim, y);
          if (rest != 0) memmove(y + params.rot_dim, x + params.rot_dim, rest);
        }
      },
      rows_per_claim(call.in[0].cols));
}

}  // namespace pf::PF_ISA
