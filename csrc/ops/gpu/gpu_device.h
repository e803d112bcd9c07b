// A device of the GPU backend: one GPU, or the emulated one, with a stream, a pool of memory, and what it keeps for
// each program. Used by one thread at a time.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "gpu_ops.h"
#include "gpu_program.h"
#include "gpu_sampling.h"

namespace pf::gpu {

class GpuDevice {
 public:
  // Throws std::runtime_error when there is no such device, saying why.
  // `activations` as in PfDeviceConfig.
  GpuDevice(int index, int32_t activations);

  const std::string& description() const { return description_; }

  void memory(size_t* free, size_t* total);
  void* allocate(size_t bytes);  // zeroed
  void release(void* memory);
  void copy_in(void* to, const void* from, size_t bytes);
  void copy_out(void* to, const void* from, size_t bytes);

  GpuWeight* pack(const PfWeightPart* parts, int32_t num_parts);
  void release(GpuWeight* weight);
  void fetch_rows(const GpuWeight& weight, int64_t row, int64_t rows, float* out);

  GpuKvCache* create_kv(const PfKvShape& shape);
  void release(GpuKvCache* kv);

  // Runs the calls of a step, waits for them, and fills step.sampled. Throws std::runtime_error.
  void execute(const PfCall* calls, int32_t num_calls, const PfStep& step);
  void release_program(uint64_t program);

  // As PfLibraries.
  void use_library(const std::string& name, const std::vector<std::string>& paths);
  std::string libraries();

 private:
  // Everything that comes from outside: makes the device the thread's, and keeps others out.
  std::unique_lock<std::mutex> enter();
  GpuProgram& program_of(const PfStep& step);
  void run(const PfCall* calls, int32_t num_calls, const PfStep& step);

  std::mutex mutex_;
  Runtime runtime_;
  const Stream stream_;
  const int32_t activations_;
  MemoryPool memory_;
  Scratch scratch_;
  Sampling sampling_;
  std::unique_ptr<LibraryGemm> gemm_;
  std::map<std::string, std::string> refused_;  // libraries that were asked for, and why they are not used
  std::unordered_map<uint64_t, std::unique_ptr<GpuProgram>> programs_;
  std::string description_;
};

size_t gpu_kv_block_bytes(const PfKvShape& shape);

}  // namespace pf::gpu
