// Lowering: rewriting groups of basic ops of a program into fused ones, by a table of patterns. A pattern is applied
// only where the backend has the fused op, and every intermediate result that someone else reads is still produced, so
// a lowered program computes the same buffers as the recorded one.
#pragma once
#include <functional>
#include <string>

#include "program.h"

namespace pf {

using HasOp = std::function<bool(const std::string& name)>;

// `program` must be valid. Fusions known now: add + rms_norm of the sum → add_rms_norm.
Program lower(Program program, const HasOp& has_op);

}  // namespace pf
