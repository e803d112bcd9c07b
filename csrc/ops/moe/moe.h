// Contract of the ops of a mixture of experts. k = experts a token, E = experts; a slot is one (token, choice), slot
// t k + j being choice j of token t.
//
//   moe_route   in logits[T, E]; optional vector bias[E]; ints k, scoring, renormalize; floats scale
//               out ids[T, k], weights[T, k]
//               score = softmax over all experts (scoring 0) or sigmoid (1). The k experts of largest score + bias, or
//               of largest logit without a bias, in descending order, the lower id first where they are equal.
//               weights = score * scale, or score / sum of the chosen scores * scale; the bias is in none of them.
//   moe         in x[T, H], ids, weights; weights gate_up[E][2I, H] (rows gate 0, up 0, gate 1, ...), down[E][H, I]
//               out y[T, H] = sum over j of weights[t, j] * down_e(silu(gate_e x) * (up_e x)),   e = ids[t, j]
//
// Numerics: scores and weights are fp32; the sum goes over ascending j in fp32, from products of slots that are rounded
// to the activations' type. An id outside 0 .. E - 1 is an expert of another device: its slot adds nothing. A logit
// that is NaN is the largest, so that it is chosen and shows.
//
// Determinism: a token's result does not depend on the other tokens. Slots of an expert are in ascending order.
#pragma once
