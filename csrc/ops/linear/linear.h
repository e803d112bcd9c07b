// Contract of the ops that read packed weights.
//
//   linear   in x[rows, K]; weight W[N, K]; optional vector bias[N]
//            out y[rows, N] = x W^T + bias
//   lm_head  linear, whose out y[R, N] are the logits that `sample` reads; reads the masks of step.sampling. Where a
//            row reads only what its mask allows (see sample.h), its other entries may hold anything
//   linear_add                 in x, r[rows, N]; out r + linear(x)
//   linear_silu_mul            in x; out y[rows, N / 2] = silu_mul(linear(x))
//   rms_norm_linear            in x; vector w[K], which is the norm's, and no bias; floats eps; out linear(rms_norm(x))
//   rms_norm_linear_silu_mul   likewise; out y[rows, N / 2] = silu_mul(linear(rms_norm(x)))
//            these four are made by lowering only; their bits equal those of their parts one after another
//   embed    weight W[V, K]; floats scale; reads step.token_ids[T], each within [0, V)
//            out y[T, K] = W[token_ids] * scale, where W is dequantized exactly as its file format defines
//
// Formats. A weight is packed once and keeps the precision and about the size of its file: F32, F16, BF16, Q8_0, Q4_0,
// Q4_1, Q4_K and Q6_K (block layouts of GGUF). It is a concatenation of parts along N; parts may differ in format, and
// the rows of a part need not fill its last tile. `packed_tiles.h` draws the layout.
//
// Numerics. Float formats: an output is one chain of fp32 fma over ascending k, starting at 0.
// Quantized formats: a row of x is cut into groups of kGroup values, and each group becomes
//
//   a = round_to_nearest_even(x * (1 / s)) within [-127, 127],   s = max|x| / 127,   t = s * sum(a)
//
// A group whose s lies below FLT_MIN counts as zeros; one that holds an infinity or a NaN has s = NaN, so that its
// outputs are NaN. With q, d, m of the file's format the output is, over ascending groups,
//
//   Q8_0              y = fma(float(dot), d * s, y)                       dot = sum q a          q = -128 .. 127
//   Q4_0, Q4_1, Q4_K  y = fma(m, t, fma(float(dot), d * s, y))            dot = sum q a          q = 0 .. 15
//                     m = -8 d in Q4_0; d and -m are d * scale and dmin * min in Q4_K, both exact in fp32
//   Q6_K              y = fma(float(dot), d * s, y)                       dot = sum scale (q - 32) a
//
// where dot is an exact integer. The bias is added last.
//
// Determinism: the operations of one output, and their order, do not depend on the number of rows, on the other rows or
// on threads. avx2 and avx512 agree bit for bit; generic has no fused fma and agrees within rounding.
#pragma once
#include <stdint.h>

namespace pf {

inline constexpr int kGroup = 32;        // consecutive k that share a scale of the activations
inline constexpr int kSuperBlock = 256;  // consecutive k of one block of Q4_K or Q6_K

}  // namespace pf
