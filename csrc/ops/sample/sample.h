// Contract of the op `sample`: in logits[R, >= vocab]; reads step.sampling, writes step.sampled (see PfSampling).
//
// A row goes one of four ways:
//   deferred   raw logits are copied out, id -1; nothing else is computed
//   scored     (target >= 0) that token's raw log-probability, whatever masks and penalties say
//   greedy     (temperature 0) the largest adjusted logit, the lowest id among equals
//   sampled    argmax over the kept tokens of z + gumbel(noise), z = (adjusted - largest adjusted) / temperature
// Adjusted logits: mask, + bias, then for tokens of the counts: x / repetition if x > 0, else x * repetition; then
// - frequency * count, and - presence if count > 0. Kept tokens: z >= log(min_p); of these the top_k largest; of these,
// in descending order, those before which less than top_p of the mass lies. Equals are ordered by ascending id
// everywhere.
//
// Log-probabilities and ranks are of the raw logits: log-softmax over the vocabulary, rank 1 + the number of tokens
// that are larger, or equal and have a lower id. They are computed for rows with num_logprobs >= 0 or a target;
// elsewhere 0. Unused entries of the tables of the most likely tokens are id -1, log-probability 0.
//
// Rows with `weigh` also get log_allowed, the log of the raw probability mass that the row's mask allows (0 without a
// mask), and allowed_logprobs, the raw log-probability of the id less that: its log-probability under the model without
// temperature, restricted by the mask and by nothing else. A scored row is weighed by its mask too; a token that the
// mask forbids has -inf, and a mask that allows nothing gives -inf for both. Such rows get log-probability and rank as
// if num_logprobs were 0. Elsewhere both are 0.
//
// A row that has a mask and is sampled without log-probabilities and weights reads only the logits that its mask
// allows, see `only_allowed`: the others need not be there.
//
// Status: a NaN or +inf anywhere among the logits that a row reads is PF_ROW_NONFINITE, and so is a row that
// reads all of them and has only -inf; no token left after mask and bias is PF_ROW_MASK_EMPTY. In both cases the
// id is -1, and all else of the row is as if unused.
//
// Noise: token t has word (t % 64) / 16 of the Philox4x32-10 block with counter (16 (t / 64) + t % 16, position,
// stream, 0) and key (seed low, seed high), an integer k; u = (k + 1/2) / 2^32; gumbel = -log(-log(u)) in double,
// rounded to float; score = z + gumbel in float. So noise is the same on every backend and instruction set, and z
// differs by rounding at most.
#pragma once
#include "../../runtime/backend.h"

namespace pf {
namespace {  // kernel files are compiled with various flags: no symbol of this header may be shared among them

// The mask of a row that reads nothing but the logits which the mask allows; null for a row that reads all of them.
// Whatever looks at the other logits of a row must be told here, since lm_head does not compute them.
inline const uint32_t* only_allowed(const PfStep& step, int64_t row) {
  const PfSampling& s = step.sampling;
  const bool whole = step.copy_logits != 0 || s.mask_row == nullptr || s.mask_row[row] < 0 || s.defer[row] != 0 ||
                     s.target[row] >= 0 || s.num_logprobs[row] >= 0 || (s.weigh != nullptr && s.weigh[row] != 0);
  return whole ? nullptr : s.masks + s.mask_row[row] * ((int64_t{s.vocab} + 31) / 32);
}

}  // namespace
}  // namespace pf
