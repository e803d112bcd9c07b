// Small programs for tests: buffers and ops added one by one.
#pragma once
#include <string>
#include <vector>

#include "runtime/program.h"

struct ProgramBuilder {
  pf::Program program;

  pf::View buffer(pf::Rows rows, int64_t cols) {
    program.buffers.push_back({rows, cols});
    return {static_cast<int32_t>(program.buffers.size()) - 1, 0, cols};
  }
  pf::View tokens(int64_t cols) { return buffer(pf::Rows::tokens, cols); }

  pf::View input(const std::string& name, int64_t cols) {
    const pf::View view = tokens(cols);
    program.inputs[name] = view;
    return view;
  }
  pf::View add(pf::View a, pf::View b) { return op("add", {a, b}, {tokens(a.cols)}); }
  // Refers to vector 0.
  pf::View norm(pf::View x) { return op("rms_norm", {x}, {tokens(x.cols)}, -1, 0, {1}, {1e-6}); }

  pf::View op(const std::string& name, std::vector<pf::View> inputs, std::vector<pf::View> outputs, int32_t weight = -1,
              int32_t vector = -1, std::vector<int64_t> ints = {}, std::vector<double> floats = {}) {
    program.ops.push_back({name, std::move(inputs), outputs, weight, vector, std::move(ints), std::move(floats)});
    return outputs.empty() ? pf::View{} : outputs[0];
  }
};
