// Sums and gathers over the GPUs of one machine: small messages by the kernel of ours, where the GPUs reach each
// other's memory, larger ones and all others by NCCL.
//
//   const nccl::Library library({"libnccl.so.2"});      // std::runtime_error where it cannot be used
//   Communicator ranks(runtime, stream, {.ranks = 2, .rank = 0, .peer_access = true}, &library, id);
//   ranks.measure(args);                                // by all ranks, while nothing is being captured
//   ranks.all_reduce(args, stream);                     // by all ranks, in the same order; may be captured
//
// All ranks must decide alike, or they wait for each other for ever. So all have the library or none has, what was
// measured is summed over the ranks before it decides, and a call that fails is an error, never done in another way.
#pragma once
#include <cstdint>

#include "../../gpu/nccl.h"
#include "../../gpu/runtime.h"
#include "../../gpu/timing.h"
#include "../comm/gpu/all_reduce.h"

namespace pf::gpu {

struct RankSetup {
  int ranks = 1, rank = 0;
  bool peer_access = false;  // each rank reads and writes all others' memory
};

constexpr int64_t kOneShotBytes = int64_t{256} << 10;   // one meeting for a message of up to so many
constexpr int64_t kOwnBytes = int64_t{1} << 20;         // ours for up to so many, until that is measured
constexpr int64_t kFewestMeasured = int64_t{16} << 10;  // smaller ones are ours: they wait, they don't transfer

// The largest of ascending `sizes` before the first at which NCCL takes less time than ours; `none` if that is the
// first.
int64_t own_bytes_of(const std::vector<int64_t>& sizes, const std::vector<float>& our_ms,
                     const std::vector<float>& their_ms, int64_t none);

class Communicator {
 public:
  // `library` may be null where there is peer access, and must stay; `id` is what one rank got of it. Waits for all
  // ranks. std::runtime_error where there is neither.
  Communicator(Runtime& runtime, Stream stream, const RankSetup& setup, const nccl::Library* library,
               const nccl::UniqueId& id);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // Finds the size from which NCCL is faster, up to that of `args`, whose inputs are read and outputs overwritten.
  template <class T>
  void measure(const AllReduceArgs<T>& args);

  // As all_reduce of ops/comm/gpu; without peer access only this rank's `in` and `out` are looked at.
  template <class T>
  void all_reduce(const AllReduceArgs<T>& args, Stream stream) const;

  // out[r] = in of rank r, each `bytes` long. std::runtime_error without NCCL.
  void all_gather(const void* in, void* out, size_t bytes, Stream stream) const;

  int64_t own_bytes() const { return own_bytes_; }  // messages of up to so many are ours

 private:
  template <class T>
  void by_kernel(const AllReduceArgs<T>& args, Stream stream) const;
  template <class T>
  void by_library(const AllReduceArgs<T>& args, Stream stream) const;

  Runtime& runtime_;
  const Stream stream_;
  const RankSetup setup_;
  const nccl::Library* const library_;
  nccl::Comm comm_ = nullptr;
  const Timing timing_;
  int64_t own_bytes_;
};

}  // namespace pf::gpu
