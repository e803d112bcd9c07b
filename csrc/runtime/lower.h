// Lowering: rewriting groups of basic ops of a program into fused ones, by a table of patterns. A pattern is applied
// only where the backend has the fused op, and every intermediate result that someone else reads is still produced, so
// a lowered program computes the same buffers as the recorded one.
#pragma once
#include <functional>
#include <string>

#include "program.h"

namespace pf {

using HasOp = std::function<bool(const std::string& name)>;

// `program` must be valid. Fusions known now: linear with the add, silu_mul or sample that reads it, or the rms_norm
// that it reads; add with the rms_norm of its sum.
Program lower(Program program, const HasOp& has_op);

}  // namespace pf
