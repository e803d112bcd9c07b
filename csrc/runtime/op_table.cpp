#include "op_table.h"

#include <algorithm>
#include <cmath>

#include "errors.h"

namespace pf {

int64_t OpShapes::integer(const char* name) const {
  const auto at = std::find(signature.ints.begin(), signature.ints.end(), name);
  return op.ints[static_cast<size_t>(at - signature.ints.begin())];
}

double OpShapes::real(const char* name) const {
  const auto at = std::find(signature.floats.begin(), signature.floats.end(), name);
  return op.floats[static_cast<size_t>(at - signature.floats.begin())];
}

void OpShapes::fail(const std::string& what) const { refuse(where, ": ", what); }

void OpShapes::expect(const char* what, int64_t got, int64_t wanted) const {
  if (got != wanted) fail(message(what, " is ", got, ", expected ", wanted));
}

void OpShapes::expect_rows(const char* what, Rows got, Rows wanted) const {
  if (got != wanted) fail(message(what, " has rows ", rows_letter(got), ", expected ", rows_letter(wanted)));
}

namespace {

void positive(const OpShapes& s, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (s.integer(name) < 1) s.fail(message(name, " is ", s.integer(name), ", must be at least 1"));
  }
}

void finite(const OpShapes& s) {
  for (size_t i = 0; i < s.op.floats.size(); ++i) {
    if (!std::isfinite(s.op.floats[i])) s.fail(s.signature.floats[i] + " is not finite");
  }
}

void check_embed(const OpShapes& s) {
  finite(s);
  s.expect_rows("output", s.out_rows(0), Rows::tokens);
  s.expect("output columns", s.out(0), s.weight().cols);
}

void check_rope_angles(const OpShapes& s) {
  finite(s);
  s.expect_rows("output", s.out_rows(0), Rows::tokens);
  s.expect("output columns", s.out(0), 2 * s.vector_len());
}

void check_rms_norm(const OpShapes& s) {
  finite(s);
  positive(s, {"groups"});
  s.expect_rows("output", s.out_rows(0), s.in_rows(0));
  s.expect("output columns", s.out(0), s.in(0));
  s.expect("groups times the length of the vector", s.integer("groups") * s.vector_len(), s.in(0));
}

// Of an op that makes one column of `factors` columns of the product.
void check_product(const OpShapes& s, int64_t factors) {
  s.expect_rows("output", s.out_rows(0), s.in_rows(0));
  s.expect("input columns", s.in(0), s.weight().cols);
  if (s.weight().rows % factors != 0) s.fail(message("the weight has ", s.weight().rows, " rows, must be even"));
  s.expect("output columns", s.out(0), s.weight().rows / factors);
}

void check_linear(const OpShapes& s) {
  check_product(s, 1);
  if (s.op.vector >= 0) s.expect("length of the bias", s.vector_len(), s.out(0));
}

void check_lm_head(const OpShapes& s) {
  check_linear(s);
  s.expect_rows("input", s.in_rows(0), Rows::logits);
}

void check_rope(const OpShapes& s) {
  positive(s, {"heads", "head_dim", "rot_dim"});
  const int64_t rot = s.integer("rot_dim"), interleaved = s.integer("interleaved");
  if (rot % 2 != 0 || rot > s.integer("head_dim")) {
    s.fail(message("rot_dim is ", rot, ", must be even and at most head_dim ", s.integer("head_dim")));
  }
  if (interleaved != 0 && interleaved != 1) s.fail(message("interleaved is ", interleaved, ", must be 0 or 1"));
  s.expect_rows("input 0", s.in_rows(0), Rows::tokens);
  s.expect_rows("input 1", s.in_rows(1), Rows::tokens);
  s.expect_rows("output", s.out_rows(0), Rows::tokens);
  s.expect("columns of input 0", s.in(0), s.integer("heads") * s.integer("head_dim"));
  s.expect("columns of input 1", s.in(1), rot);
  s.expect("output columns", s.out(0), s.in(0));
}

void check_cache(const OpShapes& s) {
  positive(s, {"kv_heads", "head_dim"});
  if (s.bindings.kv == nullptr) s.fail("needs a KV cache, and the program was given none");
  const PfKvShape& kv = *s.bindings.kv;
  const int64_t layer = s.integer("layer");
  if (layer < 0 || layer >= kv.num_layers) {
    s.fail(message("layer is ", layer, ", but the KV cache has ", kv.num_layers, " layers"));
  }
  s.expect("kv_heads", s.integer("kv_heads"), kv.kv_heads);
  s.expect("head_dim", s.integer("head_dim"), kv.head_dim);
}

void check_cache_write(const OpShapes& s) {
  check_cache(s);
  for (size_t i = 0; i < 2; ++i) {
    s.expect_rows("input", s.in_rows(i), Rows::tokens);
    s.expect("input columns", s.in(i), s.integer("kv_heads") * s.integer("head_dim"));
  }
}

void check_attention(const OpShapes& s) {
  finite(s);
  check_cache(s);
  positive(s, {"heads"});
  const int64_t heads = s.integer("heads");
  if (heads % s.integer("kv_heads") != 0) {
    s.fail(message("heads is ", heads, ", must be a multiple of kv_heads ", s.integer("kv_heads")));
  }
  if (s.integer("window") < 0) s.fail(message("window is ", s.integer("window"), ", must not be negative"));
  if (s.real("softcap") < 0) s.fail("softcap must not be negative");
  s.expect_rows("input", s.in_rows(0), Rows::tokens);
  s.expect_rows("output", s.out_rows(0), Rows::tokens);
  s.expect("input columns", s.in(0), heads * s.integer("head_dim"));
  s.expect("output columns", s.out(0), s.in(0));
}

void check_silu_mul(const OpShapes& s) {
  s.expect_rows("output", s.out_rows(0), s.in_rows(0));
  s.expect("input columns", s.in(0), 2 * s.out(0));
}

void check_add(const OpShapes& s) {
  s.expect_rows("input 1", s.in_rows(1), s.in_rows(0));
  s.expect_rows("output", s.out_rows(0), s.in_rows(0));
  s.expect("columns of input 1", s.in(1), s.in(0));
  s.expect("output columns", s.out(0), s.in(0));
}

void check_gather_rows(const OpShapes& s) {
  s.expect_rows("input", s.in_rows(0), Rows::tokens);
  s.expect_rows("output", s.out_rows(0), Rows::logits);
  s.expect("output columns", s.out(0), s.in(0));
}

void check_sample(const OpShapes& s) { s.expect_rows("input", s.in_rows(0), Rows::logits); }

void check_mixture(const OpShapes& s) {
  positive(s, {"top_k"});
  s.expect_rows("input 1", s.in_rows(1), s.in_rows(0));
  s.expect_rows("output", s.out_rows(0), s.in_rows(0));
  if (s.integer("top_k") > s.in(1)) {
    s.fail(message("top_k is ", s.integer("top_k"), ", but there are ", s.in(1), " experts"));
  }
}

void check_moe_gate_up(const OpShapes& s) {
  check_mixture(s);
  const int64_t experts = s.in(1), top_k = s.integer("top_k");
  s.expect("input columns", s.in(0), s.weight().cols);
  if (s.out(0) % top_k != 0) s.fail(message("output columns are ", s.out(0), ", must be a multiple of top_k ", top_k));
  s.expect("rows of the weight", s.weight().rows, 2 * experts * (s.out(0) / top_k));
}

void check_moe_down(const OpShapes& s) {
  check_mixture(s);
  const int64_t renormalize = s.integer("renormalize");
  if (renormalize != 0 && renormalize != 1) s.fail(message("renormalize is ", renormalize, ", must be 0 or 1"));
  s.expect("input columns", s.in(0), s.integer("top_k") * s.weight().cols);
  s.expect("rows of the weight", s.weight().rows, s.in(1) * s.out(0));
}

void check_add_rms_norm(const OpShapes& s) {
  check_add(s);
  finite(s);
  positive(s, {"groups"});
  s.expect_rows("output 1", s.out_rows(1), s.in_rows(0));
  s.expect("columns of output 1", s.out(1), s.in(0));
  s.expect("groups times the length of the vector", s.integer("groups") * s.vector_len(), s.in(0));
}

void check_linear_add(const OpShapes& s) {
  check_linear(s);
  s.expect_rows("input 1", s.in_rows(1), s.in_rows(0));
  s.expect("columns of input 1", s.in(1), s.out(0));
}

void check_linear_silu_mul(const OpShapes& s) {
  check_product(s, 2);
  if (s.op.vector >= 0) s.expect("length of the bias", s.vector_len(), s.weight().rows);
}

void check_rms_norm_linear(const OpShapes& s) {
  finite(s);
  check_product(s, 1);
  s.expect("length of the vector", s.vector_len(), s.in(0));
}

void check_rms_norm_linear_silu_mul(const OpShapes& s) {
  finite(s);
  check_product(s, 2);
  s.expect("length of the vector", s.vector_len(), s.in(0));
}

}  // namespace

const std::vector<OpSignature>& op_signatures() {
  static const std::vector<OpSignature> table = {
      {"embed", 0, 1, {}, {"scale"}, Need::yes, Need::no, check_embed},
      {"rope_angles", 0, 1, {}, {"attention_scale"}, Need::no, Need::yes, check_rope_angles},
      {"rms_norm", 1, 1, {"groups"}, {"eps"}, Need::no, Need::yes, check_rms_norm},
      {"linear", 1, 1, {}, {}, Need::yes, Need::optional, check_linear},
      {"rope", 2, 1, {"heads", "head_dim", "rot_dim", "interleaved"}, {}, Need::no, Need::no, check_rope},
      {"cache_write", 2, 0, {"layer", "kv_heads", "head_dim"}, {}, Need::no, Need::no, check_cache_write},
      {"attention",
       1,
       1,
       {"layer", "heads", "kv_heads", "head_dim", "window"},
       {"scale", "softcap"},
       Need::no,
       Need::no,
       check_attention},
      {"silu_mul", 1, 1, {}, {}, Need::no, Need::no, check_silu_mul},
      {"add", 2, 1, {}, {}, Need::no, Need::no, check_add},
      {"gather_rows", 1, 1, {}, {}, Need::no, Need::no, check_gather_rows},
      {"moe_gate_up", 2, 1, {"top_k"}, {}, Need::yes, Need::no, check_moe_gate_up},
      {"moe_down", 2, 1, {"top_k", "renormalize"}, {}, Need::yes, Need::no, check_moe_down},
      {"sample", 1, 0, {}, {}, Need::no, Need::no, check_sample},
      {"lm_head", 1, 1, {}, {}, Need::yes, Need::optional, check_lm_head},
      {"linear_add", 2, 1, {}, {}, Need::yes, Need::optional, check_linear_add},
      {"linear_silu_mul", 1, 1, {}, {}, Need::yes, Need::optional, check_linear_silu_mul},
      {"rms_norm_linear", 1, 1, {}, {"eps"}, Need::yes, Need::yes, check_rms_norm_linear},
      {"rms_norm_linear_silu_mul", 1, 1, {}, {"eps"}, Need::yes, Need::yes, check_rms_norm_linear_silu_mul},
      {"add_rms_norm", 2, 2, {"groups"}, {"eps"}, Need::no, Need::yes, check_add_rms_norm},
  };
  return table;
}

const OpSignature* find_signature(const std::string& name) {
  for (const OpSignature& signature : op_signatures()) {
    if (signature.name == name) return &signature;
  }
  return nullptr;
}

}  // namespace pf
