// Contract of the ops of a mixture of experts. k = experts a token, E = experts; a slot is one (token, choice), slot
// t k + j being choice j of token t.
//
// Programs have two ops, each with one weight; both route by themselves, which costs next to nothing beside a product:
//
//   moe_gate_up  in x[T, H], logits[T, E]; weight [E * 2I, H]: gate 0, up 0, gate 1, ..., each [I, H]; ints top_k
//                out inner[T, k I] = silu(gate_e x) * (up_e x) for each of the token's k experts e
//   moe_down     in inner[T, k I], logits[T, E]; weight [E * H, I]: down 0, down 1, ...; ints top_k, renormalize
//                out y[T, H] = sum over j of weights[t, j] * down_e(inner[t, j])
//
// What they are made of, as functions on a GPU (gpu/moe.h):
//
//   moe_route   in logits[T, E]; optional vector bias[E]; ints k, scoring, renormalize; floats scale
//               out ids[T, k], weights[T, k]
//               score = softmax over all experts (scoring 0) or sigmoid (1). The k experts of largest score + bias, or
//               of largest logit without a bias, in descending order, the lower id first where they are equal.
//               weights = score * scale, or score / sum of the chosen scores * scale; the bias is in none of them.
//               Programs' ops score by softmax, without a bias and with scale 1.
//   moe         in x[T, H], ids, weights; weights gate_up[E][2I, H] (rows gate 0, up 0, gate 1, ...), down[E][H, I]
//               out y[T, H] = sum over j of weights[t, j] * down_e(silu(gate_e x) * (up_e x)),   e = ids[t, j]
//
// Numerics: scores and weights are fp32; the sum goes over ascending j in fp32, from products of slots that are rounded
// to the activations' type. An id outside 0 .. E - 1 is an expert of another device: its slot adds nothing. A logit
// that is NaN is the largest, so that it is chosen and shows. Products are those of `linear` (ops/linear/linear.h).
//
// Determinism: a token's result does not depend on the other tokens. Slots of an expert are in ascending order.
#pragma once
#include "../../runtime/backend.h"

namespace pf {

struct MoeParams {
  int64_t top_k;
  bool renormalize;  // of moe_down only

  explicit MoeParams(const PfCall& call) : top_k(call.ints[0]), renormalize(call.ints[1] != 0) {}
};

}  // namespace pf
