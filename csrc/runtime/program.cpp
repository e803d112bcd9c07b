#include "program.h"

#include <algorithm>

#include "errors.h"
#include "op_table.h"

namespace pf {
namespace {

// Columns of a buffer written so far, as disjoint views.
class Written {
 public:
  explicit Written(size_t buffers) : views_(buffers) {}

  // The first already written view that shares a column with `view`, or null.
  const View* clash(const View& view) const {
    for (const View& other : of(view)) {
      if (overlap(view, other)) return &other;
    }
    return nullptr;
  }
  void add(const View& view) { views_[static_cast<size_t>(view.buffer)].push_back(view); }

  bool covers(const View& view) const {
    int64_t columns = 0;  // written views are disjoint, so the shared columns can be counted
    for (const View& other : of(view)) {
      const int64_t begin = std::max(view.col, other.col);
      const int64_t end = std::min(view.col + view.cols, other.col + other.cols);
      columns += std::max<int64_t>(0, end - begin);
    }
    return columns == view.cols;
  }

 private:
  const std::vector<View>& of(const View& view) const { return views_[static_cast<size_t>(view.buffer)]; }
  std::vector<std::vector<View>> views_;
};

std::string describe(const View& view) {
  return message(view.cols, " columns from column ", view.col, " of buffer ", view.buffer);
}

void check_view(const Program& program, const View& view, const std::string& where) {
  const auto count = static_cast<int64_t>(program.buffers.size());
  if (view.buffer < 0 || view.buffer >= count) {
    refuse(where, " refers to buffer ", view.buffer, ", but the program has ", count, " buffers");
  }
  const int64_t cols = program.buffers[static_cast<size_t>(view.buffer)].cols;
  if (view.cols < 1 || view.col < 0 || view.col > cols - view.cols) {
    refuse(where, " is ", describe(view), ", which has ", cols, " columns");
  }
}

void check_count(const std::string& where, const char* what, size_t got, size_t wanted) {
  if (got != wanted) refuse(where, ": has ", got, " ", what, ", takes ", wanted);
}

void check_index(const std::string& where, const char* what, int32_t index, Need need, size_t available) {
  if (index < 0) {
    if (need == Need::yes) refuse(where, ": needs a ", what);
    return;
  }
  if (need == Need::no) refuse(where, ": takes no ", what);
  if (static_cast<size_t>(index) >= available) {
    refuse(where, ": refers to ", what, " ", index, ", but the program was given ", available);
  }
}

// Operands are of one type, but angles and what is sampled are float32, and logits may be.
void check_types(const Program& program, const Op& op, const std::string& where) {
  const auto type = [&](const View& view) { return program.buffers[static_cast<size_t>(view.buffer)].dtype; };
  const auto floats = [&](const View& view, const char* what) {
    if (type(view) != PF_F32) refuse(where, ": ", what, " must be float32");
  };
  if (op.name == "sample") return floats(op.inputs[0], "the input");
  if (op.name == "rope_angles") return floats(op.outputs[0], "the output");
  std::vector<View> alike = op.inputs;
  if (op.name == "rope") {
    floats(op.inputs[1], "input 1");
    alike.resize(1);
  }
  const bool makes_logits = (op.name == "linear" || op.name == "lm_head") && type(op.outputs[0]) == PF_F32;
  if (!makes_logits) alike.insert(alike.end(), op.outputs.begin(), op.outputs.end());
  for (const View& view : alike) {
    if (type(view) != type(alike[0])) refuse(where, ": operands have different types");
  }
}

void check_op(const Program& program, const Op& op, const std::string& where, const Bindings& bindings) {
  const OpSignature* signature = find_signature(op.name);
  if (signature == nullptr) refuse(where, ": is not an op of the op table");
  check_count(where, "inputs", op.inputs.size(), signature->inputs);
  check_count(where, "outputs", op.outputs.size(), signature->outputs);
  check_count(where, "ints", op.ints.size(), signature->ints.size());
  check_count(where, "floats", op.floats.size(), signature->floats.size());
  for (size_t i = 0; i < op.ints.size(); ++i) {  // so that no product of two overflows
    if (op.ints[i] < INT32_MIN || op.ints[i] > INT32_MAX) {
      refuse(where, ": ", signature->ints[i], " is ", op.ints[i], ", which does not fit in 32 bits");
    }
  }
  check_index(where, "weight", op.weight, signature->weight, bindings.weights.size());
  check_index(where, "vector", op.vector, signature->vector, bindings.vectors.size());
  for (const View& view : op.inputs) check_view(program, view, where + ": an input");
  for (const View& view : op.outputs) check_view(program, view, where + ": an output");
  check_types(program, op, where);
  signature->check({program, op, *signature, bindings, where});
}

}  // namespace

const char* rows_letter(Rows rows) {
  switch (rows) {
    case Rows::tokens:
      return "T";
    case Rows::seqs:
      return "S";
    default:
      return "R";
  }
}

Rows rows_from_letter(const std::string& letter) {
  for (const Rows rows : {Rows::tokens, Rows::seqs, Rows::logits}) {
    if (letter == rows_letter(rows)) return rows;
  }
  refuse("rows of a buffer are T, S or R, not ", letter);
}

size_t element_bytes(PfDType dtype) { return dtype == PF_F32 ? 4 : 2; }

PfDType activation_type_from_name(const std::string& name) {
  if (name == "f32") return PF_F32;
  if (name == "f16") return PF_F16;
  if (name == "bf16") return PF_BF16;
  refuse("activations are f32, f16 or bf16, not ", name);
}

bool overlap(const View& a, const View& b) {
  return a.buffer == b.buffer && a.col < b.col + b.cols && b.col < a.col + a.cols;
}

void validate(const Program& program, const Bindings& bindings) {
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const int64_t cols = program.buffers[i].cols;
    if (cols < 1 || cols > INT32_MAX) refuse("buffer ", i, " has ", cols, " columns, must have 1 to 2^31 - 1");
  }
  Written written(program.buffers.size());
  const auto write = [&](const View& view, const std::string& where) {
    if (const View* other = written.clash(view)) {
      refuse(where, " writes ", describe(view), ", but ", describe(*other), " were written before");
    }
    written.add(view);
  };
  for (const auto& [name, view] : program.inputs) {
    check_view(program, view, "input \"" + name + "\"");
    write(view, "input \"" + name + "\"");
  }
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const std::string where = message("op ", i, " ", op.name);
    check_op(program, op, where, bindings);
    for (const View& view : op.inputs) {
      if (!written.covers(view)) refuse(where, ": reads ", describe(view), " before all of it is written");
    }
    for (const View& view : op.outputs) write(view, where + ":");
  }
  for (const auto& [name, view] : program.outputs) {
    check_view(program, view, "output \"" + name + "\"");
    if (!written.covers(view)) refuse("output \"", name, "\": ", describe(view), " is never wholly written");
  }
}

}  // namespace pf
