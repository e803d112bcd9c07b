#include "lower.h"

#include <optional>

namespace pf {
namespace {

// The op that stands at `place` afterwards, and which other one it makes superfluous: the same one if none.
struct Fusion {
  size_t place, erased;
  Op fused;
};

struct Pattern {
  const char* fused_op;
  const char* first_op;
  std::optional<Fusion> (*match)(const Program& program, size_t first);
};

// The one op that reads `view`, if it reads that and no other columns of it, and nobody outside sees any.
std::optional<size_t> only_reader(const Program& program, const View& view) {
  for (const auto& [name, output] : program.outputs) {
    if (overlap(output, view)) return std::nullopt;
  }
  std::optional<size_t> reader;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    for (const View& input : program.ops[i].inputs) {
      if (!overlap(input, view)) continue;
      if (input != view || reader.has_value()) return std::nullopt;
      reader = i;
    }
  }
  return reader;
}

// y = linear(x); s = add(r, y)  →  s = linear_add(x, r), at the place of the add, since r may be newer than x.
std::optional<Fusion> match_linear_add(const Program& program, size_t first) {
  const Op& linear = program.ops[first];
  const std::optional<size_t> second = only_reader(program, linear.outputs[0]);
  if (!second || program.ops[*second].name != "add") return std::nullopt;
  const Op& add = program.ops[*second];
  Op fused = linear;
  fused.name = "linear_add";
  fused.inputs.push_back(add.inputs[add.inputs[0] == linear.outputs[0] ? 1 : 0]);
  fused.outputs = add.outputs;
  return Fusion{*second, first, fused};
}

// y = linear(x); z = silu_mul(y)  →  z = linear_silu_mul(x).
std::optional<Fusion> match_linear_silu_mul(const Program& program, size_t first) {
  const Op& linear = program.ops[first];
  const std::optional<size_t> second = only_reader(program, linear.outputs[0]);
  if (!second || program.ops[*second].name != "silu_mul") return std::nullopt;
  Op fused = linear;
  fused.name = "linear_silu_mul";
  fused.outputs = program.ops[*second].outputs;
  return Fusion{*second, first, fused};
}

// h = rms_norm(x); y = linear(h)  →  y = rms_norm_linear(x), and the same of linear_silu_mul. An op has one vector: a
// linear with a bias keeps it and is left alone.
std::optional<Fusion> match_norm_linear(const Program& program, size_t first, const std::string& name) {
  const Op& norm = program.ops[first];
  const std::optional<size_t> second = only_reader(program, norm.outputs[0]);
  if (!second || program.ops[*second].name != name || norm.ints[0] != 1) return std::nullopt;
  const Op& linear = program.ops[*second];
  if (linear.vector >= 0) return std::nullopt;
  Op fused = linear;
  fused.name = "rms_norm_" + name;
  fused.inputs = norm.inputs;
  fused.vector = norm.vector;
  fused.floats = norm.floats;
  return Fusion{*second, first, fused};
}
std::optional<Fusion> match_rms_norm_linear(const Program& program, size_t first) {
  return match_norm_linear(program, first, "linear");
}
std::optional<Fusion> match_rms_norm_linear_silu_mul(const Program& program, size_t first) {
  return match_norm_linear(program, first, "linear_silu_mul");
}

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
    return Fusion{first, second, fused};
  }
  return std::nullopt;
}

// y = linear(x); sample(y)  →  y = lm_head(x); sample(y), where nothing else sees y.
std::optional<Fusion> match_lm_head(const Program& program, size_t first) {
  const View& logits = program.ops[first].outputs[0];
  if (program.buffers[static_cast<size_t>(logits.buffer)].rows != Rows::logits) return std::nullopt;
  const std::optional<size_t> reader = only_reader(program, logits);
  if (!reader || program.ops[*reader].name != "sample") return std::nullopt;
  Op head = program.ops[first];
  head.name = "lm_head";
  return Fusion{first, first, head};
}

// In this order: what a pattern makes may be the first op of a later one.
constexpr Pattern kPatterns[] = {
    {"linear_add", "linear", match_linear_add},
    {"linear_silu_mul", "linear", match_linear_silu_mul},
    {"lm_head", "linear", match_lm_head},
    {"rms_norm_linear", "rms_norm", match_rms_norm_linear},
    {"rms_norm_linear_silu_mul", "rms_norm", match_rms_norm_linear_silu_mul},
    {"add_rms_norm", "add", match_add_rms_norm},
};

}  // namespace

Program lower(Program program, const HasOp& has_op) {
  for (const Pattern& pattern : kPatterns) {
    if (!has_op(pattern.fused_op)) continue;
    for (size_t first = 0; first < program.ops.size(); ++first) {
      if (program.ops[first].name != pattern.first_op) continue;
      std::optional<Fusion> fusion = pattern.match(program, first);
      if (!fusion) continue;
      program.ops[fusion->place] = std::move(fusion->fused);
      if (fusion->erased == fusion->place) continue;
      program.ops.erase(program.ops.begin() + static_cast<std::ptrdiff_t>(fusion->erased));
      if (fusion->erased == first) --first;  // another op stands there now
    }
  }
  return program;
}

}  // namespace pf
