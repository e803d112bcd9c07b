// Reading the arrays of a pageform.runtime.inputs.StepInputs into a PfStep, with checks of types and shapes.
#pragma once
#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "buffers.h"
#include "runtime/runner.h"

// Holds every array that its PfStep points into. Made and destroyed with the GIL.
class StepArrays {
 public:
  // Throws std::invalid_argument (ValueError) naming the field.
  StepArrays(const pybind11::object& inputs, const pf::StepLimits& limits);

  const PfStep& step() const { return step_; }
  pybind11::dict take_sampled() { return std::move(sampled_); }

 private:
  template <class T>
  const T* array(const pybind11::object& owner, const char* name, int64_t count);
  template <class T>
  const T* counted(const pybind11::object& owner, const char* name, int32_t* count);
  const HeldBuffer& held(const pybind11::object& owner, const char* name);
  void read_copies(const pybind11::object& inputs);
  void read_sampling(const pybind11::object& sampling, const pf::StepLimits& limits);
  void allocate_sampled(int64_t rows);

  PfStep step_{};
  std::vector<std::unique_ptr<HeldBuffer>> held_;
  pybind11::dict sampled_;
};
