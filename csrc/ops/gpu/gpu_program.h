// What the GPU backend keeps for one program: the fixed addresses of a step's inputs, and the launches of whole steps,
// captured once for each size that decoding comes in.
//
// A step in which every sequence computes one token and samples it is filled up to the next of a few sizes, so that few
// graphs serve all of them. The sequences added are empty: their tokens go to no slot and attend to nothing, and nobody
// reads their rows. Other steps are launched op by op.
//
// Where there is a kernel for prompts, it computes the positions of prompts and no other: which kernel makes a
// position's bits depends neither on the batch, nor on how steps were cut, nor on drafts.
#pragma once
#include <map>
#include <vector>

#include "gpu_ops.h"
#include "transfer.h"

namespace pf::gpu {

// The size that a decoding step of `seqs` sequences is filled up to: 1, 2, 4, 8, 16, 24, ..., never above `most`.
int bucket_of(int seqs, int most);

// No sequence of the step is longer: 512 and its doubles.
int length_bucket_of(int max_len);

// Memory that launches need for a moment, of all programs of a device. It only grows.
class Scratch {
 public:
  explicit Scratch(MemoryPool& memory) : memory_(memory) {}
  ~Scratch() { memory_.release(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* reserve(size_t floats);
  // Changes whenever the memory moves: graphs captured before are worth nothing.
  int generation() const { return generation_; }

 private:
  MemoryPool& memory_;
  float* data_ = nullptr;
  size_t floats_ = 0;
  int generation_ = 0;
};

struct ProgramStats {
  int64_t graphs = 0, graph_launches = 0, plain_steps = 0;
};

class GpuProgram {
 public:
  GpuProgram(Runtime& runtime, MemoryPool& memory, int32_t activations, const PfProgram& program);
  ~GpuProgram();
  GpuProgram(const GpuProgram&) = delete;
  GpuProgram& operator=(const GpuProgram&) = delete;

  // Uploads the step's inputs and launches calls[0, count), none of them `sample`. `gemm`: a vendor's, or null; it is
  // compared with ours at the first step.
  void launch(const PfCall* calls, int32_t count, const PfStep& step, Scratch& scratch, Stream stream,
              LibraryGemm* gemm = nullptr);

  const ProgramStats& stats() const { return stats_; }

 private:
  // The launches of one bucket of sequences and of lengths.
  struct Captured {
    Graph* graph;
    int scratch_generation;
  };
  using Key = std::pair<int, int>;

  GpuStep upload(const PfStep& step, int seqs, int length, Stream stream);
  void copy_blocks_of(const PfStep& step, Stream stream);
  void forget_graphs();

  // Whether some tokens are for the kernel of prompts.
  bool has_prompts(const PfStep& step) const;
  void split_tokens(const PfStep& step, int32_t* prompt_ends, int32_t* generated, int* num_generated) const;

  Runtime& runtime_;
  const int32_t activations_;
  const PfProgram program_;
  Transfer inputs_, copies_;
  std::map<Key, Captured> graphs_;
  ProgramStats stats_;
  bool compared_ = false;  // a vendor's GEMM with ours
};

}  // namespace pf::gpu
