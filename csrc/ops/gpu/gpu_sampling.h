// The end of a step: what the rows of logits are sampled with goes to the device, and what was sampled comes back.
#pragma once
#include "../../runtime/backend.h"
#include "transfer.h"

namespace pf::gpu {

class Sampling {
 public:
  Sampling(Runtime& runtime, MemoryPool& memory);
  ~Sampling();
  Sampling(const Sampling&) = delete;
  Sampling& operator=(const Sampling&) = delete;

  // Launches the op on the logits, of the device. The masks must be there.
  void launch(const PfTensor& logits, const PfStep& step, Stream stream);
  // Waits for the stream, then fills step.sampled.
  void fetch(const PfStep& step, Stream stream);

 private:
  // Where each array of PfSampled lies.
  struct Places {
    size_t ids, logprobs, ranks, top_ids, top_logprobs, status, log_allowed, allowed_logprobs, logits;
  };
  PfSampling upload(const PfStep& step, Stream stream);

  Runtime& runtime_;
  MemoryPool& memory_;
  Transfer inputs_, outputs_;
  Places places_{};
  float* scratch_ = nullptr;
  size_t scratch_floats_ = 0;
};

}  // namespace pf::gpu
