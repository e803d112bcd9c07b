#include "runtime/program.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "fixtures/program_builder.h"
#include "runtime/lower.h"

namespace {

using pf::Rows;
using pf::View;

constexpr PfKvShape kKv = {2, 2, 16, 16, 8, PF_F32};

// Weight 0 is [100, 32]; vectors have 32 and 8 elements.
pf::Bindings bindings() { return {{{100, 32}}, {32, 8}, &kKv}; }

// A layer's worth of ops that is valid.
ProgramBuilder valid_program() {
  ProgramBuilder b;
  const View hidden = b.op("embed", {}, {b.tokens(32)}, 0, -1, {}, {1.0});
  const View angles = b.op("rope_angles", {}, {b.tokens(16)}, -1, 1, {}, {1.0});
  const View normed = b.norm(hidden);
  const View q = b.op("rope", {normed, angles}, {b.tokens(32)}, -1, -1, {2, 16, 16, 0});
  b.op("cache_write", {q, normed}, {}, -1, -1, {1, 2, 16});
  const View attended = b.op("attention", {q}, {b.tokens(32)}, -1, -1, {1, 2, 2, 16, 0}, {0.25, 0.0});
  const View sum = b.add(hidden, attended);
  const View gated = b.op("silu_mul", {sum}, {b.tokens(16)});
  b.program.outputs["gated"] = gated;
  const View rows = b.op("gather_rows", {sum}, {b.buffer(Rows::logits, 32)});
  const View logits = b.op("linear", {rows}, {b.buffer(Rows::logits, 100)}, 0);
  b.op("sample", {logits}, {});
  return b;
}

TEST(ProgramValidation, AcceptsAValidProgram) { EXPECT_NO_THROW(pf::validate(valid_program().program, bindings())); }

struct BadProgram {
  const char* name;
  std::function<void(pf::Program&)> spoil;
  const char* message;  // part of what must be said
};

pf::Op& find(pf::Program& program, const std::string& name) {
  for (pf::Op& op : program.ops) {
    if (op.name == name) return op;
  }
  throw std::logic_error("no op " + name);
}

class BadPrograms : public ::testing::TestWithParam<BadProgram> {};

TEST_P(BadPrograms, AreRefusedWithTheReason) {
  pf::Program program = valid_program().program;
  GetParam().spoil(program);
  try {
    pf::validate(program, bindings());
    FAIL() << "accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, BadPrograms,
    ::testing::Values(
        BadProgram{"UnknownOp", [](pf::Program& p) { p.ops[6].name = "subtract"; }, "op 6 subtract: is not an op"},
        BadProgram{"TooFewInputs", [](pf::Program& p) { find(p, "add").inputs.pop_back(); }, "has 1 inputs, takes 2"},
        BadProgram{"TooManyOutputs", [](pf::Program& p) { find(p, "sample").outputs = {{0, 0, 1}}; },
                   "has 1 outputs, takes 0"},
        BadProgram{"MissingParameter", [](pf::Program& p) { find(p, "rope").ints.pop_back(); }, "has 3 ints, takes 4"},
        BadProgram{"MissingFloat", [](pf::Program& p) { find(p, "embed").floats = {}; }, "has 0 floats, takes 1"},
        BadProgram{"NoWeight", [](pf::Program& p) { find(p, "linear").weight = -1; }, "linear: needs a weight"},
        BadProgram{"WeightOutOfRange", [](pf::Program& p) { find(p, "linear").weight = 1; }, "refers to weight 1"},
        BadProgram{"WeightNotTaken", [](pf::Program& p) { find(p, "add").weight = 0; }, "add: takes no weight"},
        BadProgram{"NoVector", [](pf::Program& p) { find(p, "rms_norm").vector = -1; }, "needs a vector"},
        BadProgram{"VectorTooShort", [](pf::Program& p) { find(p, "rms_norm").vector = 1; },
                   "groups times the length of the vector is 8, expected 32"},
        BadProgram{"BiasTooShort", [](pf::Program& p) { find(p, "linear").vector = 0; },
                   "length of the bias is 32, expected 100"},
        BadProgram{"BufferOutOfRange", [](pf::Program& p) { find(p, "add").inputs[1].buffer = 99; },
                   "refers to buffer 99"},
        BadProgram{"NegativeBuffer", [](pf::Program& p) { find(p, "add").inputs[1].buffer = -1; }, "buffer -1"},
        BadProgram{"ViewTooWide", [](pf::Program& p) { find(p, "add").inputs[1].col = 8; }, "which has 32 columns"},
        BadProgram{"ViewOverflow", [](pf::Program& p) { find(p, "add").inputs[1].col = INT64_MAX; },
                   "which has 32 columns"},
        BadProgram{"ColumnsDiffer", [](pf::Program& p) { find(p, "add").inputs[1].cols = 16; },
                   "columns of input 1 is 16, expected 32"},
        BadProgram{"SiluOfOddWidth", [](pf::Program& p) { find(p, "silu_mul").inputs[0].cols = 30; },
                   "input columns is 30, expected 32"},
        BadProgram{"LinearOfOtherWidth", [](pf::Program& p) { find(p, "linear").inputs[0].cols = 16; },
                   "input columns is 16, expected 32"},
        BadProgram{"RowsDiffer", [](pf::Program& p) { p.buffers[0].rows = Rows::logits; }, "has rows R, expected T"},
        BadProgram{"NotFinite", [](pf::Program& p) { find(p, "attention").floats[0] = NAN; }, "scale is not finite"},
        BadProgram{"RotDimOdd", [](pf::Program& p) { find(p, "rope").ints[2] = 15; }, "rot_dim is 15"},
        BadProgram{"RotDimTooLarge", [](pf::Program& p) { find(p, "rope").ints[2] = 18; }, "rot_dim is 18"},
        BadProgram{"Interleaved2", [](pf::Program& p) { find(p, "rope").ints[3] = 2; }, "interleaved is 2"},
        BadProgram{"LayerOutOfRange", [](pf::Program& p) { find(p, "cache_write").ints[0] = 2; }, "layer is 2"},
        BadProgram{"HeadsOfOtherCache", [](pf::Program& p) { find(p, "attention").ints[2] = 1; },
                   "kv_heads is 1, expected 2"},
        BadProgram{"HeadsNotAMultiple", [](pf::Program& p) { find(p, "attention").ints[1] = 3; }, "heads is 3"},
        BadProgram{"NegativeWindow", [](pf::Program& p) { find(p, "attention").ints[4] = -1; }, "window is -1"},
        BadProgram{"ZeroGroups", [](pf::Program& p) { find(p, "rms_norm").ints[0] = 0; }, "groups is 0"},
        BadProgram{"ReadsTooEarly", [](pf::Program& p) { std::swap(p.ops[0], p.ops[2]); },
                   "before all of it is written"},
        BadProgram{"WritesTwice", [](pf::Program& p) { find(p, "add").outputs[0].buffer = 0; }, "were written before"},
        BadProgram{
            "OverwritesItsInput",
            [](pf::Program& p) { find(p, "silu_mul").outputs[0] = {find(p, "silu_mul").inputs[0].buffer, 0, 16}; },
            "were written before"},
        BadProgram{"OutputNeverWritten",
                   [](pf::Program& p) {
                     p.buffers.push_back({Rows::tokens, 4});
                     p.outputs["late"] = {static_cast<int32_t>(p.buffers.size()) - 1, 0, 4};
                   },
                   "output \"late\""},
        BadProgram{"GroupsBeyond32Bits", [](pf::Program& p) { find(p, "rms_norm").ints[0] = INT64_MAX; },
                   "groups is 9223372036854775807, which does not fit in 32 bits"},
        BadProgram{"EndlessBuffer", [](pf::Program& p) { p.buffers[0].cols = INT64_MAX; }, "buffer 0 has 9223"},
        BadProgram{"EmptyBuffer", [](pf::Program& p) { p.buffers[0].cols = 0; }, "buffer 0 has 0 columns"}),
    [](const auto& info) { return info.param.name; });

TEST(ProgramValidation, RefusesCacheOpsWithoutCache) {
  pf::Bindings without = bindings();
  without.kv = nullptr;
  EXPECT_THROW(pf::validate(valid_program().program, without), std::invalid_argument);
}

TEST(ProgramValidation, ColumnsOfABufferMayBeWrittenByDifferentOps) {
  ProgramBuilder b;
  const View x = b.input("x", 16);
  const View joint = b.tokens(32);
  const View left{joint.buffer, 0, 16}, right{joint.buffer, 16, 16};
  b.op("add", {x, x}, {left});
  b.program.outputs["joint"] = joint;
  EXPECT_THROW(pf::validate(b.program, {}), std::invalid_argument);  // the right half is missing
  b.op("add", {left, x}, {right});
  EXPECT_NO_THROW(pf::validate(b.program, {}));
}

// --- lowering --------------------------------------------------------------------------------------------------------

std::vector<std::string> names(const pf::Program& program) {
  std::vector<std::string> all;
  for (const pf::Op& op : program.ops) all.push_back(op.name);
  return all;
}

bool has_all(const std::string&) { return true; }

TEST(Lowering, FusesAnAddWithTheNormOfItsSum) {
  ProgramBuilder b;
  const View a = b.input("a", 32), c = b.input("c", 32);
  const View sum = b.add(a, c);
  const View normed = b.norm(sum);
  b.program.outputs["again"] = b.add(sum, normed);  // the sum is still needed
  const pf::Program lowered = pf::lower(b.program, has_all);
  ASSERT_EQ(names(lowered), (std::vector<std::string>{"add_rms_norm", "add"}));
  EXPECT_EQ(lowered.ops[0].inputs, (std::vector<View>{a, c}));
  EXPECT_EQ(lowered.ops[0].outputs, (std::vector<View>{sum, normed}));
  EXPECT_EQ(lowered.ops[0].vector, 0);
  EXPECT_EQ(lowered.ops[0].floats, std::vector<double>{1e-6});
  EXPECT_NO_THROW(pf::validate(lowered, bindings()));
}

TEST(Lowering, FusesEveryResidualOfAStack) {
  ProgramBuilder b;
  View hidden = b.input("x", 32);
  View branch = b.input("y", 32);
  for (int layer = 0; layer < 5; ++layer) {
    hidden = b.add(hidden, branch);
    branch = b.norm(hidden);
  }
  b.program.outputs["out"] = branch;
  EXPECT_EQ(names(pf::lower(b.program, has_all)), std::vector<std::string>(5, "add_rms_norm"));
}

TEST(Lowering, LeavesAloneWhatDoesNotMatch) {
  ProgramBuilder b;
  const View a = b.input("a", 64);
  const View sum = b.add(a, a);
  const View half{sum.buffer, 32, 32};
  b.program.outputs["normed"] = b.norm(half);  // the norm of a part of the sum
  EXPECT_EQ(names(pf::lower(b.program, has_all)), names(b.program));
}

TEST(Lowering, NeedsTheFusedOpInTheBackend) {
  ProgramBuilder b;
  const View a = b.input("a", 32);
  b.program.outputs["normed"] = b.norm(b.add(a, a));
  EXPECT_EQ(names(pf::lower(b.program, [](const std::string&) { return false; })), names(b.program));
}

// --- linear with its neighbours; weight 0 is [100, 32], vector 0 has 32 elements -------------------------------------

TEST(Lowering, FusesWhatStandsAroundALinear) {
  pf::Bindings layer = bindings();
  layer.weights = {{32, 32}, {64, 32}};
  ProgramBuilder b;
  const View x = b.input("x", 32);
  const View attended = b.op("linear", {b.norm(x)}, {b.tokens(32)}, 0);
  const View sum = b.add(x, b.op("linear", {attended}, {b.tokens(32)}, 0));
  const View gate_up = b.op("linear", {b.norm(sum)}, {b.tokens(64)}, 1);
  const View gated = b.op("silu_mul", {gate_up}, {b.tokens(32)});
  const View last = b.add(b.op("linear", {gated}, {b.tokens(32)}, 0), sum);
  b.program.outputs["last"] = last;
  ASSERT_NO_THROW(pf::validate(b.program, layer));
  const pf::Program lowered = pf::lower(b.program, has_all);
  ASSERT_EQ(names(lowered),
            (std::vector<std::string>{"rms_norm_linear", "linear_add", "rms_norm_linear_silu_mul", "linear_add"}));
  EXPECT_EQ(lowered.ops[0].inputs, (std::vector<View>{x}));
  EXPECT_EQ(lowered.ops[1].inputs, (std::vector<View>{attended, x}));
  EXPECT_EQ(lowered.ops[2].inputs, (std::vector<View>{sum}));
  EXPECT_EQ(lowered.ops[2].floats, std::vector<double>{1e-6});
  EXPECT_EQ(lowered.ops[3].inputs, (std::vector<View>{gated, sum}));
  EXPECT_EQ(lowered.ops[3].outputs, (std::vector<View>{last}));
  EXPECT_NO_THROW(pf::validate(lowered, layer));
}

TEST(Lowering, TheSumWaitsForWhatIsAdded) {
  ProgramBuilder b;
  const View x = b.input("x", 32);
  const View product = b.op("linear", {x}, {b.tokens(32)}, 0);
  const View later = b.norm(x);
  b.program.outputs["sum"] = b.add(product, later);
  EXPECT_EQ(names(pf::lower(b.program, has_all)), (std::vector<std::string>{"rms_norm", "linear_add"}));
}

TEST(Lowering, LeavesALinearAloneWhoseNeighboursAreReadElsewhere) {
  const auto lowered = [](const std::function<void(ProgramBuilder&, View, View, View)>& more, int32_t bias) {
    ProgramBuilder b;
    const View x = b.input("x", 32);
    const View h = b.norm(x);
    const View y = b.op("linear", {h}, {b.tokens(32)}, 0, bias);
    more(b, x, h, y);
    return names(pf::lower(b.program, has_all));
  };
  using Names = std::vector<std::string>;
  const auto nothing = [](ProgramBuilder&, View, View, View) {};
  EXPECT_EQ(lowered(nothing, -1), Names{"rms_norm_linear"});
  EXPECT_EQ(lowered(nothing, 0), (Names{"rms_norm", "linear"}));  // one vector an op
  EXPECT_EQ(lowered([](ProgramBuilder& b, View, View h, View) { b.program.outputs["h"] = h; }, -1),
            (Names{"rms_norm", "linear"}));
  EXPECT_EQ(lowered([](ProgramBuilder& b, View x, View h, View) { b.add(x, h); }, -1),
            (Names{"rms_norm", "linear", "add"}));
  EXPECT_EQ(lowered([](ProgramBuilder& b, View x, View, View y) { b.add(x, y), b.add(y, x); }, -1),
            (Names{"rms_norm_linear", "add", "add"}));
  EXPECT_EQ(lowered([](ProgramBuilder& b, View, View, View y) { b.add(y, y); }, -1), (Names{"rms_norm_linear", "add"}));
  EXPECT_EQ(lowered(
                [](ProgramBuilder& b, View, View, View y) {
                  b.op("silu_mul", {{y.buffer, 0, 16}}, {b.tokens(8)});  // of a part of the product
                },
                -1),
            (Names{"rms_norm_linear", "silu_mul"}));
}

}  // namespace
