#include "lower.h"

#include <optional>

namespace pf {
namespace {

// The op that replaces ops[first] and ops[second], which may be the same one; it takes the place of the first.
struct Fusion {
  size_t second;
  Op fused;
};

struct Pattern {
  const char* fused_op;
  const char* first_op;
  std::optional<Fusion> (*match)(const Program& program, size_t first);
};

// s = add(a, b); y = rms_norm(s)  →  s, y = add_rms_norm(a, b). The norm reads nothing but s, so it may move up to the
// add; s stays an output, since the residual stream is read again.
std::optional<Fusion> match_add_rms_norm(const Program& program, size_t first) {
  const Op& add = program.ops[first];
  const View& sum = add.outputs[0];
  for (size_t second = first + 1; second < program.ops.size(); ++second) {
    const Op& norm = program.ops[second];
    if (norm.name != "rms_norm" || norm.inputs[0] != sum) continue;
    Op fused = norm;
    fused.name = "add_rms_norm";
    fused.inputs = add.inputs;
    fused.outputs = {sum, norm.outputs[0]};
    return Fusion{second, fused};
  }
  return std::nullopt;
}

// y = linear(x); sample(y)  →  y = lm_head(x); sample(y), where nothing else sees y.
std::optional<Fusion> match_lm_head(const Program& program, size_t first) {
  const View& logits = program.ops[first].outputs[0];
  if (program.buffers[static_cast<size_t>(logits.buffer)].rows != Rows::logits) return std::nullopt;
  for (const auto& [name, view] : program.outputs) {
    if (overlap(view, logits)) return std::nullopt;
  }
  bool sampled = false;
  for (const Op& op : program.ops) {
    for (const View& input : op.inputs) {
      if (!overlap(input, logits)) continue;
      if (op.name != "sample" || input != logits) return std::nullopt;
      sampled = true;
    }
  }
  if (!sampled) return std::nullopt;
  Op head = program.ops[first];
  head.name = "lm_head";
  return Fusion{first, head};
}

constexpr Pattern kPatterns[] = {
    {"add_rms_norm", "add", match_add_rms_norm},
    {"lm_head", "linear", match_lm_head},
};

}  // namespace

Program lower(Program program, const HasOp& has_op) {
  for (const Pattern& pattern : kPatterns) {
    if (!has_op(pattern.fused_op)) continue;
    for (size_t first = 0; first < program.ops.size(); ++first) {
      if (program.ops[first].name != pattern.first_op) continue;
      if (std::optional<Fusion> fusion = pattern.match(program, first)) {
        program.ops[first] = std::move(fusion->fused);
        if (fusion->second != first)
          program.ops.erase(program.ops.begin() + static_cast<std::ptrdiff_t>(fusion->second));
      }
    }
  }
  return program;
}

}  // namespace pf
