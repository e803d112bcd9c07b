#include "nccl.h"

#include <stdexcept>

namespace pf::gpu::nccl {

Library::Library(const std::vector<std::string>& names) : file(names) {
  file.find(get_version, "ncclGetVersion");
  file.find(error_string, "ncclGetErrorString");
  int found = 0;
  check(get_version(&found), nullptr, "ncclGetVersion");
  if (found < kOldestVersion) {
    throw std::runtime_error(file.path() + " is version " + version() + ", too old: 2.10 is the oldest that will do");
  }
  file.find(last_error, "ncclGetLastError");
  file.find(get_unique_id, "ncclGetUniqueId");
  file.find(init_rank, "ncclCommInitRank");
  file.find(destroy, "ncclCommDestroy");
  file.find(all_reduce, "ncclAllReduce");
  file.find(all_gather, "ncclAllGather");
}

std::string Library::version() const {
  int number = 0;
  check(get_version(&number), nullptr, "ncclGetVersion");
  const int major = number < 10000 ? 1000 : 10000;  // up to 2.8 the second number had one digit
  return std::to_string(number / major) + "." + std::to_string(number % major / 100) + "." +
         std::to_string(number % 100);
}

void Library::check(Result result, Comm comm, const char* what) const {
  if (result == kSuccess) return;
  std::string text = std::string(what) + ": " + error_string(result);
  const char* const details = comm == nullptr ? nullptr : last_error(comm);
  if (details != nullptr && *details != '\0') text += std::string(", ") + details;
  throw std::runtime_error(text);
}

UniqueId Library::unique_id() const {
  UniqueId id;
  check(get_unique_id(&id), nullptr, "ncclGetUniqueId");
  return id;
}

}  // namespace pf::gpu::nccl
