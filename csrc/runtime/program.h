// The intermediate form of one step of a model: a flat list of ops over 2-D buffers, of float32 or a 16-bit type.
//
// Rows of a buffer are symbolic (tokens, sequences or logits rows of the step), columns are numbers. A view is a range
// of columns of a buffer: q, k and v are views of the one output of their joint linear. Every column is written at most
// once (by an op, or fed from outside) and only read afterwards, so that liveness is an interval and fusing is local.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backend.h"

namespace pf {

enum class Rows { tokens, seqs, logits };

// "T", "S" or "R" as in the op table.
const char* rows_letter(Rows rows);
Rows rows_from_letter(const std::string& letter);

struct Buffer {
  Rows rows = Rows::tokens;
  int64_t cols = 0;
  PfDType dtype = PF_F32;  // PF_F32, PF_F16 or PF_BF16
};

struct View {
  int32_t buffer = 0;
  int64_t col = 0, cols = 0;
  bool operator==(const View&) const = default;
};

// Bytes of an element of a buffer.
size_t element_bytes(PfDType dtype);
// "f32", "f16" or "bf16"; std::invalid_argument for another.
PfDType activation_type_from_name(const std::string& name);

// True when the two share a column.
bool overlap(const View& a, const View& b);

struct Op {
  std::string name;
  std::vector<View> inputs, outputs;
  int32_t weight = -1;  // index into the program's weights, -1 none
  int32_t vector = -1;  // index into the program's vectors, -1 none
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

struct Program {
  std::vector<Buffer> buffers;
  std::vector<Op> ops;
  std::map<std::string, View> inputs;   // fed from outside before a run
  std::map<std::string, View> outputs;  // read from outside after a run
};

struct WeightShape {
  int64_t rows = 0, cols = 0;
};

// What a program's ops refer to by number.
struct Bindings {
  std::vector<WeightShape> weights;
  std::vector<int64_t> vectors;  // lengths
  const PfKvShape* kv = nullptr;
};

// Throws std::invalid_argument naming the op, the operand and the rule that is broken: unknown op, wrong number of
// operands or parameters, columns that don't fit each other, the weight, the vector or the cache, a column read before
// it is written or written twice, an output that overlaps an input.
void validate(const Program& program, const Bindings& bindings);

}  // namespace pf
