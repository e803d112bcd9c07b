// The gate that a step's arrays pass before a backend sees them: every index that a kernel will follow is within its
// bounds, so that a bad plan is an error and never a read of foreign memory.
#pragma once
#include "arena.h"
#include "backend.h"

namespace pf {

struct StepLimits {
  StepSizes maxima;
  int64_t vocab = 0;              // rows of the embedding that token ids index; 0 when the program embeds nothing
  const PfKvShape* kv = nullptr;  // null when the program has no cache
  int64_t logits_cols = 0;        // columns of the logits that are sampled; 0 when the program samples nothing
};

// Throws std::invalid_argument naming the array, the index and the value. With a cache, positions and slots must be
// those that query_start, seq_lens and block_tables imply: kernels walk the tables by them.
//
// The lengths of the ragged arrays of `sampling` are not part of a PfStep: see check_ragged.
void check_step(const PfStep& step, const StepLimits& limits);

// Starts of `rows` runs within arrays of `length` elements: 0 first, never falling, `length` last.
void check_ragged(const char* name, const int32_t* starts, int64_t rows, int64_t length);

}  // namespace pf
