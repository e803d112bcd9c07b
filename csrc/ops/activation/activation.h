// Contract of the activation ops.
//
//   silu_mul     in x[rows, 2I]; out y[rows, I] = silu(x[:, :I]) * x[:, I:], silu(v) = v / (1 + e^-v)
//   gather_rows  in x[T, H]; out y[R, H] = x[step.logits_rows]
#pragma once
