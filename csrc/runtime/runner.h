// Runs the steps of one program on one device.
//
// Binding happens once: the program is validated and lowered, the arena planned, every op becomes a PfCall whose
// addresses never change. A step only sets the row counts that differ from the step before, and calls the backend once.
// Calls from several threads take turns.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "arena.h"
#include "device.h"
#include "program.h"
#include "step_check.h"

namespace pf {

struct RunnerOptions {
  StepSizes maxima;
  bool lower = true;
};

// Row-major.
struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<float> values;
};

class Runner {
 public:
  // `kv` may be null for a program without a cache. Throws std::invalid_argument for a program that is not valid, and
  // BackendError for one with an op that the backend lacks.
  Runner(std::shared_ptr<Device> device, Program program, std::vector<std::shared_ptr<Weight>> weights,
         std::vector<std::vector<float>> vectors, std::shared_ptr<KvCache> kv, const RunnerOptions& options);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Checks the step, runs it, blocks until done. `step.kv` and `step.program` are set here. std::invalid_argument for a
  // bad step, in which case nothing has happened; BackendError when the backend fails.
  void run(PfStep step);

  // Values of an external input, used by every following run; their rows must be those of the step.
  void feed(const std::string& name, Matrix values);

  // An external output of the last run.
  Matrix fetch(const std::string& name) const;

  const Program& program() const { return program_; }
  const ArenaPlan& arena() const { return plan_; }
  const StepLimits& limits() const { return limits_; }

 private:
  PfTensor tensor(const View& view) const;
  void bind_calls();
  void set_rows(const StepSizes& sizes);
  void place_inputs() const;

  std::shared_ptr<Device> device_;
  Program program_;
  std::vector<std::shared_ptr<Weight>> weights_;
  std::shared_ptr<KvCache> kv_;
  ArenaPlan plan_;
  StepLimits limits_;
  PfProgram identity_;
  std::unique_ptr<DeviceMemory> arena_;
  std::unique_ptr<DeviceMemory> vector_memory_;
  std::vector<const float*> vectors_;
  std::vector<int64_t> vector_lens_;
  std::vector<PfCall> bound_;  // one an op
  std::vector<PfCall> calls_;  // those with any rows, at a fixed address
  StepSizes sizes_;
  mutable std::mutex mutex_;  // held by run, feed and fetch
  std::map<std::string, Matrix> fed_;
};

}  // namespace pf
