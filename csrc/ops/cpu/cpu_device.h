// A device of the CPU backend: a thread pool and the kernels of one instruction set.
#pragma once
#include <string>
#include <vector>

#include "../../runtime/thread_pool.h"
#include "cpu_features.h"
#include "kernels.h"

namespace pf {

// Zeroed pages of the system. A page costs nothing until it is touched.
void* map_pages(size_t bytes);  // throws std::bad_alloc
void unmap_pages(void* data, size_t bytes);

// Handle of an op: its index among the names of all ops in all tables. -1 when no table has it.
int32_t cpu_op_handle(const char* name);

class CpuDevice {
 public:
  // `cores` as in ThreadPool.
  CpuDevice(int num_threads, const std::string& isa, std::vector<int> cores);

  ThreadPool& pool() { return pool_; }
  const std::string& description() const { return description_; }

  // Runs the calls one after another, each on all threads, and each finished before the next. Throws
  // std::runtime_error.
  void execute(const PfCall* calls, int32_t num_calls, const PfStep& step);

 private:
  const Isa isa_;
  ThreadPool pool_;
  std::vector<CpuOp> ops_;  // by handle; null where the set's tables lack it
  std::string description_;
};

// Size of one block over all layers, K and V.
size_t cpu_kv_block_bytes(const PfKvShape& shape);
// Throws std::invalid_argument for a shape outside the limits of the attention ops (see attention.h).
CpuKvCache* create_kv(const PfKvShape& shape);
void destroy_kv(CpuKvCache* kv);

}  // namespace pf
