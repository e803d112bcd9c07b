// What is used of NCCL, which is loaded at run time: neither its header nor the library is needed to build. AMD's RCCL
// has the same functions under the same names. ci/gpu_libs compares these declarations with NVIDIA's own header.
#pragma once
#include <stddef.h>

#include "shared_library.h"

namespace pf::gpu::nccl {

using Comm = struct CommOpaque*;
struct UniqueId {
  char bytes[128];
};

using Result = int;
constexpr Result kSuccess = 0;

enum DataType : int { kByte = 0, kHalf = 6, kFloat = 7, kBfloat16 = 9 };
enum Operation : int { kSum = 0 };

constexpr int kOldestVersion = 21000;  // 2.10, the first with bfloat16

struct Library {
  // std::runtime_error: not found, too old, or a function is missing.
  explicit Library(const std::vector<std::string>& names);

  // "2.27.3"
  std::string version() const;
  // std::runtime_error with NCCL's words unless `result` is 0.
  void check(Result result, Comm comm, const char* what) const;
  // Made by one rank, for all.
  UniqueId unique_id() const;

  SharedLibrary file;
  Result (*get_version)(int*);
  const char* (*error_string)(Result);
  const char* (*last_error)(Comm);
  Result (*get_unique_id)(UniqueId*);
  Result (*init_rank)(Comm*, int ranks, UniqueId, int rank);
  Result (*destroy)(Comm);
  Result (*all_reduce)(const void* in, void* out, size_t count, DataType, Operation, Comm, void* stream);
  Result (*all_gather)(const void* in, void* out, size_t count, DataType, Comm, void* stream);
};

}  // namespace pf::gpu::nccl
