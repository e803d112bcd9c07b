#include "step_check.h"

#include <algorithm>
#include <cmath>

#include "errors.h"

namespace pf {
namespace {

template <class T>
void in_range(const char* name, const T* values, int64_t count, int64_t low, int64_t end) {
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<int64_t>(values[i]);
    if (value < low || value >= end) {
      refuse(name, "[", i, "] is ", value, ", must be at least ", low, " and below ", end);
    }
  }
}

void count_within(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) refuse("the step has ", value, " ", name, ", must have ", low, " to ", high);
}

// `low_open`: low itself is excluded. NaN is never within.
void real_within(const char* name, const float* values, int64_t count, float low, float high, bool low_open = false) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = values[i];
    const bool fits = (low_open ? value > low : value >= low) && value <= high;
    if (!fits) refuse(name, "[", i, "] is ", value, ", out of range");
  }
}

void check_starts(const char* name, const int32_t* starts, int64_t count, bool strictly) {
  if (starts[0] != 0) refuse(name, "[0] is ", starts[0], ", must be 0");
  for (int64_t i = 1; i <= count; ++i) {
    if (starts[i] < starts[i - 1] || (strictly && starts[i] == starts[i - 1])) {
      refuse(name, "[", i, "] is ", starts[i], " after ", starts[i - 1], ", must be ", strictly ? "above" : "at least",
             " the one before");
    }
  }
}

void check_sequence(const PfStep& step, const PfKvShape& kv, int32_t seq) {
  const int32_t begin = step.query_start[seq], end = step.query_start[seq + 1];
  const int32_t context = step.seq_lens[seq];
  const int64_t capacity = static_cast<int64_t>(step.max_blocks) * kv.block_size;
  if (context < end - begin || context > capacity) {
    refuse("seq_lens[", seq, "] is ", context, ", must be at least its ", end - begin, " tokens and at most ", capacity,
           ", what its row of block_tables holds");
  }
  const int32_t* table = step.block_tables + static_cast<int64_t>(seq) * step.max_blocks;
  const int32_t blocks = (context + kv.block_size - 1) / kv.block_size;
  for (int32_t i = 0; i < blocks; ++i) {
    if (table[i] < 0 || table[i] >= kv.num_blocks) {
      refuse("block_tables[", seq, ", ", i, "] is ", table[i], ", the cache has ", kv.num_blocks, " blocks");
    }
  }
  for (int32_t token = begin; token < end; ++token) {
    const int32_t position = context - (end - token);
    if (step.positions[token] != position) {
      refuse("positions[", token, "] is ", step.positions[token], ", but its place in sequence ", seq, " is ",
             position);
    }
    const int32_t slot = table[position / kv.block_size] * kv.block_size + position % kv.block_size;
    if (step.slots[token] != slot) {
      refuse("slots[", token, "] is ", step.slots[token], ", but block_tables put position ", position, " at ", slot);
    }
  }
}

void check_copies(const PfStep& step, const PfKvShape* kv) {
  if (step.num_copies == 0) return;
  if (kv == nullptr) refuse("the step copies cache blocks, but the program has no cache");
  in_range("copy_src", step.copy_src, step.num_copies, 0, kv->num_blocks);
  in_range("copy_dst", step.copy_dst, step.num_copies, 0, kv->num_blocks);
  for (int32_t i = 0; i < step.num_copies; ++i) {
    if (step.copy_src[i] == step.copy_dst[i]) refuse("copy ", i, " copies block ", step.copy_src[i], " onto itself");
  }
}

void check_sampling(const PfSampling& s, int64_t rows, int64_t logits_cols) {
  if (s.vocab < 1 || s.vocab > logits_cols) {
    refuse("sampling.vocab is ", s.vocab, ", must be at least 1 and at most ", logits_cols,
           ", the columns of the logits");
  }
  real_within("temperature", s.temperature, rows, 0.0f, HUGE_VALF);
  real_within("top_p", s.top_p, rows, 0.0f, 1.0f, true);
  real_within("min_p", s.min_p, rows, 0.0f, 1.0f);
  real_within("repetition", s.repetition, rows, 0.0f, HUGE_VALF, true);
  real_within("presence", s.presence, rows, -HUGE_VALF, HUGE_VALF);
  real_within("frequency", s.frequency, rows, -HUGE_VALF, HUGE_VALF);
  in_range("top_k", s.top_k, rows, 0, int64_t{INT32_MAX} + 1);
  in_range("num_logprobs", s.num_logprobs, rows, -1, std::min<int64_t>(s.max_logprobs, s.vocab) + 1);
  in_range("target", s.target, rows, -1, s.vocab);
  in_range("defer", s.defer, rows, 0, 2);
  if (s.weigh != nullptr) in_range("weigh", s.weigh, rows, 0, 2);
  if (s.mask_row != nullptr) in_range("mask_row", s.mask_row, rows, -1, s.num_masks);
  if (s.bias_start != nullptr) {
    in_range("bias_tokens", s.bias_tokens, s.bias_start[rows], 0, s.vocab);
    for (int32_t i = 0; i < s.bias_start[rows]; ++i) {
      if (!(s.bias_values[i] < HUGE_VALF))
        refuse("bias_values[", i, "] is ", s.bias_values[i], ", must be below infinity");
    }
  }
  if (s.count_start != nullptr) {
    in_range("count_tokens", s.count_tokens, s.count_start[rows], 0, s.vocab);
    in_range("count_values", s.count_values, s.count_start[rows], 0, int64_t{INT32_MAX} + 1);
  }
}

}  // namespace

void check_ragged(const char* name, const int32_t* starts, int64_t rows, int64_t length) {
  check_starts(name, starts, rows, false);
  if (starts[rows] != length) {
    refuse(name, "[", rows, "] is ", starts[rows], ", must be ", length, ", the length of the arrays it points into");
  }
}

void check_step(const PfStep& step, const StepLimits& limits) {
  count_within("tokens", step.num_tokens, 1, limits.maxima.tokens);
  count_within("sequences", step.num_seqs, 1, limits.maxima.seqs);
  count_within("rows of logits", step.num_rows, 0, limits.maxima.logits);

  check_starts("query_start", step.query_start, step.num_seqs, true);
  if (step.query_start[step.num_seqs] != step.num_tokens) {
    refuse("query_start[", step.num_seqs, "] is ", step.query_start[step.num_seqs], ", must be the number of tokens ",
           step.num_tokens);
  }
  if (limits.vocab > 0) in_range("token_ids", step.token_ids, step.num_tokens, 0, limits.vocab);
  in_range("positions", step.positions, step.num_tokens, 0, int64_t{INT32_MAX} + 1);
  in_range("logits_rows", step.logits_rows, step.num_rows, 0, step.num_tokens);
  if (limits.kv != nullptr) {
    for (int32_t seq = 0; seq < step.num_seqs; ++seq) check_sequence(step, *limits.kv, seq);
  }
  check_copies(step, limits.kv);
  if (limits.logits_cols > 0 && step.num_rows > 0) check_sampling(step.sampling, step.num_rows, limits.logits_cols);
}

}  // namespace pf
