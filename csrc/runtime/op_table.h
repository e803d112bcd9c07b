// Signatures of the ops and the shapes they demand: the native twin of python/pageform/ops/table.py (a test compares
// the two).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "program.h"

namespace pf {

enum class Need { no, yes, optional };

// What the shape rule of an op sees: operands by position, parameters by name.
struct OpShapes {
  const Program& program;
  const Op& op;
  const struct OpSignature& signature;
  const Bindings& bindings;
  const std::string& where;  // begins the messages of failures

  int64_t in(size_t i) const { return op.inputs[i].cols; }
  int64_t out(size_t i) const { return op.outputs[i].cols; }
  Rows in_rows(size_t i) const { return program.buffers[static_cast<size_t>(op.inputs[i].buffer)].rows; }
  Rows out_rows(size_t i) const { return program.buffers[static_cast<size_t>(op.outputs[i].buffer)].rows; }
  int64_t integer(const char* name) const;
  double real(const char* name) const;
  WeightShape weight() const { return bindings.weights[static_cast<size_t>(op.weight)]; }
  int64_t vector_len() const { return bindings.vectors[static_cast<size_t>(op.vector)]; }

  // Throws "<where>: <what> is <got>, expected <wanted>".
  void expect(const char* what, int64_t got, int64_t wanted) const;
  void expect_rows(const char* what, Rows got, Rows wanted) const;
  [[noreturn]] void fail(const std::string& what) const;
};

struct OpSignature {
  std::string name;
  size_t inputs, outputs;
  std::vector<std::string> ints, floats;
  Need weight, vector;
  void (*check)(const OpShapes& shapes);
};

const std::vector<OpSignature>& op_signatures();

// Null when no op has that name.
const OpSignature* find_signature(const std::string& name);

}  // namespace pf
