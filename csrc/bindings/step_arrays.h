// Reading the numpy arrays of a pageform.runtime.inputs.StepInputs into a PfStep, with checks of types and shapes.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "runtime/runner.h"

// Holds references to every array that its PfStep points into.
class StepArrays {
 public:
  // Throws std::invalid_argument (ValueError) naming the field. Needs the GIL.
  StepArrays(const pybind11::object& inputs, const pf::StepLimits& limits);

  const PfStep& step() const { return step_; }
  pybind11::dict take_sampled() { return std::move(sampled_); }

 private:
  template <class T>
  const T* array(const pybind11::object& owner, const char* name, int64_t count);
  template <class T>
  pybind11::array_t<T> ragged(const pybind11::object& owner, const char* name);
  void read_copies(const pybind11::object& inputs);
  void read_sampling(const pybind11::object& sampling, const pf::StepLimits& limits);
  void allocate_sampled(int64_t rows);

  PfStep step_{};
  std::vector<pybind11::object> alive_;
  pybind11::dict sampled_;
};
