// Which experts a token is sent to, by softmax scores (contract: ops/moe/moe.h).
#pragma once
#include <stdint.h>

namespace pf {

// logits[experts] -> ids[top_k], weights[top_k].
void route(const float* logits, int64_t experts, int64_t top_k, bool renormalize, int32_t* ids, float* weights);

// std::invalid_argument: a matrix does not begin at a tile of its part, or reaches past it.
[[noreturn]] void throw_misplaced_expert(int64_t first_row, int64_t rows);

}  // namespace pf
