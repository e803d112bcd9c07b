// One row of logits is the work of one thread: a handful of vector passes over the vocabulary, which stays in the L2
// cache from the second pass on, and never a sort of it.
#include <float.h>
#include <math.h>
#include <string.h>

#include "../../cpu/kernels.h"
#include "../../cpu/simd.h"
#include "../../cpu/tensor_rows.h"
#include "../sample.h"
#include "candidates.h"
#include "philox.h"

namespace pf::PF_ISA {
namespace {

// Floors, below the largest value, at which candidates are looked for first: with real logits a few dozen tokens lie
// above the first, and each retry costs a pass. Nothing below the last matters to a top_p < 1 = 1 - 2^-24: a vocabulary
// of 2^20 tokens there has less than 2^-26 of the mass.
constexpr float kFloors[] = {4.0f, 8.0f, 16.0f, 32.0f};

// Memory of one thread for one row.
struct RowScratch {
  // Arrays are of the vocabulary rounded up to kNoiseBlock, so that whole vectors may be read and written.
  float* adjusted;  // -inf beyond the vocabulary
  float* weights;
  Candidates candidates;

  static size_t bytes(int64_t vocab) { return static_cast<size_t>(4 * padded(vocab)) * sizeof(float); }
  static int64_t padded(int64_t vocab) { return (vocab + kNoiseBlock - 1) / kNoiseBlock * kNoiseBlock; }
  RowScratch(void* memory, int64_t vocab) {
    adjusted = static_cast<float*>(memory);
    weights = adjusted + padded(vocab);
    candidates.values = weights + padded(vocab);
    candidates.ids = reinterpret_cast<int32_t*>(candidates.values + padded(vocab));
    candidates.count = 0;
  }
};

struct Scan {
  float largest_raw, largest;  // before and after the mask
  bool finite;                 // no NaN, no +inf, not all -inf
};

// Copies the logits that a mask allows, and reads no others.
Scan copy_allowed(const float* logits, const uint32_t* mask, int64_t vocab, float* adjusted) {
  const F16x none = set1(-INFINITY);
  F16x poison = zero(), largest = none;
  for (int64_t i = 0; i < RowScratch::padded(vocab); i += 16) {
    const uint32_t bits = i < vocab ? mask[i / 32] >> (i % 32) & 0xffffu : 0;
    if (bits == 0) {
      store(adjusted + i, none);
      continue;
    }
    const F16x x = vocab - i >= 16 ? load(logits + i) : load_partial(logits + i, vocab - i, -INFINITY);
    const F16x y = where_bits(bits, x, none);
    poison = fma(max(set1(-FLT_MAX), y), zero(), poison);  // see copy_masked
    largest = max(largest, y);
    store(adjusted + i, y);
  }
  const float found = reduce_max(largest);
  return {found, found, reduce_add(poison) == 0.0f};
}

// Copies a row with its mask applied: a bit for each token, 0 = forbidden; null = all allowed.
Scan copy_masked(const float* logits, const uint32_t* mask, int64_t vocab, float* adjusted) {
  const F16x none = set1(-INFINITY);
  F16x poison = zero(), largest_raw = none, largest = none;
  for (int64_t i = 0; i < vocab; i += 16) {
    const F16x x = vocab - i >= 16 ? load(logits + i) : load_partial(logits + i, vocab - i, -INFINITY);
    poison = fma(max(set1(-FLT_MAX), x), zero(), poison);  // 0 * NaN and 0 * inf are NaN; -inf became finite
    largest_raw = max(largest_raw, x);
    const F16x y = mask == nullptr ? x : where_bits(mask[i / 32] >> (i % 32), x, none);
    largest = max(largest, y);
    store(adjusted + i, y);
  }
  for (int64_t i = (vocab + 15) / 16 * 16; i < RowScratch::padded(vocab); i += 16) store(adjusted + i, none);
  const float raw = reduce_max(largest_raw);
  return {raw, reduce_max(largest), reduce_add(poison) == 0.0f && raw > -INFINITY};
}

float largest_of(const float* values, int64_t padded) {
  F16x largest = set1(-INFINITY);
  for (int64_t i = 0; i < padded; i += 16) largest = max(largest, load(values + i));
  return reduce_max(largest);
}

int32_t first_equal(const float* values, float wanted) {
  for (int64_t i = 0;; i += 16) {
    const uint32_t bits = ~less_bits(load(values + i), set1(wanted)) & 0xffffu;
    if (bits != 0) return static_cast<int32_t>(i + __builtin_ctz(bits));
  }
}

// Adds biases and applies penalties. Returns whether it changed anything.
bool adjust(const PfSampling& sampling, int64_t row, float* adjusted) {
  const bool biased = sampling.bias_start != nullptr && sampling.bias_start[row] < sampling.bias_start[row + 1];
  if (biased) {
    for (int32_t i = sampling.bias_start[row]; i < sampling.bias_start[row + 1]; ++i) {
      adjusted[sampling.bias_tokens[i]] += sampling.bias_values[i];
    }
  }
  const bool counted = sampling.count_start != nullptr && sampling.count_start[row] < sampling.count_start[row + 1];
  if (counted) {
    const float repetition = sampling.repetition[row];
    for (int32_t i = sampling.count_start[row]; i < sampling.count_start[row + 1]; ++i) {
      float& x = adjusted[sampling.count_tokens[i]];
      const int32_t count = sampling.count_values[i];
      x = x > 0.0f ? x / repetition : x * repetition;
      x -= sampling.frequency[row] * static_cast<float>(count);
      if (count > 0) x -= sampling.presence[row];
    }
  }
  return biased || counted;
}

// Collects the tokens of z (at most 0, its maximum) that min_p, top_k and top_p keep.
void truncate(const float* z, int64_t vocab, float min_p, int64_t top_k, float top_p, RowScratch& scratch) {
  Candidates& kept = scratch.candidates;
  kept.count = 0;
  const float lowest = min_p > 0.0f ? static_cast<float>(::log(static_cast<double>(min_p))) : -INFINITY;
  const bool limited = top_k > 0 && top_k < vocab;

  // With min_p or top_k first, `total` is the mass of what they leave; alone, top_p is a share of the whole row.
  const bool whole_row = !limited && min_p <= 0.0f;
  double total = whole_row ? sum_exp(z, vocab, 0.0f) : 0.0;
  const auto enough = [&] {
    if (limited) return kept.count >= top_k;
    return whole_row && sum_exp(kept.values, kept.count, 0.0f) >= static_cast<double>(top_p) * total;
  };
  for (const float below : kFloors) {
    if (!(limited || whole_row) || -below <= lowest) break;
    collect(z, vocab, -below, kept);
    if (enough()) break;
  }
  if (!enough()) collect(z, vocab, lowest, kept);

  if (limited && kept.count > top_k) keep_top(kept, static_cast<double>(top_k), nullptr);
  if (top_p < 1.0f) {
    if (!whole_row) total = sum_exp(kept.values, kept.count, 0.0f);
    for (int64_t i = 0; i < kept.count; i += 16) store(scratch.weights + i, exp(load(kept.values + i)));
    keep_top(kept, static_cast<double>(top_p) * total, scratch.weights);
  }
}

// The best score so far of the Gumbel-argmax (E. Gumbel, 1954).
struct Winner {
  float score;
  int32_t id;
  void consider(float z, uint32_t word, int32_t token) {
    const float other = z + gumbel(word);
    if (other > score || (other == score && token < id)) {
      score = other;
      id = token;
    }
  }
};

// Bit i is set unless z[i] + gumbel(words[i]) is surely below `score`. Since -log(u) >= 1 - u, the sum can reach it
// only if e^(z - score) >= 1 - u: one exponential for sixteen tokens in place of two double logarithms for each. 0.999
// covers the rounding of both sides.
PF_INLINE uint32_t contenders(F16x z, const uint32_t* words, float score) {
  float remainder[16];  // at most 1 - u
  for (int i = 0; i < 16; ++i) remainder[i] = static_cast<float>(static_cast<int32_t>(~words[i] >> 1));
  const F16x needed = mul(load(remainder), set1(0.999f * 0x1p-31f));
  return ~less_bits(exp(sub(z, set1(score))), needed) & 0xffffu;
}

int32_t draw_from_all(const float* z, int64_t padded, const NoiseKey& key, Winner best) {
  for (int64_t token = 0; token < padded; token += kNoiseBlock) {
    const F16x hopeless = set1(best.score - kLargestGumbel);
    uint32_t near = 0;
    for (int64_t i = 0; i < kNoiseBlock; i += 16) near |= ~less_bits(load(z + token + i), hopeless) & 0xffffu;
    if (near == 0) continue;
    uint32_t words[kNoiseBlock];
    noise_of_block(key, token, words);
    for (int64_t i = 0; i < kNoiseBlock; i += 16) {
      for (uint32_t bits = contenders(load(z + token + i), words + i, best.score); bits != 0; bits &= bits - 1) {
        const int64_t at = i + __builtin_ctz(bits);
        best.consider(z[token + at], words[at], static_cast<int32_t>(token + at));
      }
    }
  }
  return best.id;
}

int32_t draw_from(const Candidates& candidates, const NoiseKey& key, Winner best) {
  for (int64_t i = 0; i < candidates.count; i += 16) {
    int32_t ids[16];
    float z[16];
    for (int64_t j = 0; j < 16; ++j) {
      const bool given = i + j < candidates.count;
      ids[j] = given ? candidates.ids[i + j] : 0;
      z[j] = given ? candidates.values[i + j] : -INFINITY;
    }
    uint32_t words[16];
    noise_of(key, ids, words);
    for (uint32_t bits = contenders(load(z), words, best.score); bits != 0; bits &= bits - 1) {
      const int at = __builtin_ctz(bits);
      best.consider(z[at], words[at], ids[at]);
    }
  }
  return best.id;
}

// The score of the most likely token, whose z is 0: the one to beat.
float score_of_top(const NoiseKey& key, int32_t top) {
  int32_t ids[16];
  uint32_t words[16];
  for (int32_t& id : ids) id = top;
  noise_of(key, ids, words);
  return gumbel(words[0]);
}

// The token of one row from its adjusted logits, whose largest is `largest`.
int32_t choose(const PfSampling& sampling, int64_t row, int64_t vocab, float largest, RowScratch& scratch) {
  const int32_t top = first_equal(scratch.adjusted, largest);
  const float temperature = sampling.temperature[row];
  if (temperature == 0.0f) return top;

  const int64_t padded = RowScratch::padded(vocab);
  float* z = scratch.adjusted;
  for (int64_t i = 0; i < padded; i += 16) store(z + i, div(sub(load(z + i), set1(largest)), set1(temperature)));
  const NoiseKey key = {static_cast<uint32_t>(sampling.seed[row]), static_cast<uint32_t>(sampling.seed[row] >> 32),
                        sampling.stream[row], sampling.position[row]};
  const Winner start = {score_of_top(key, top), top};
  const int64_t top_k = sampling.top_k[row];
  const float top_p = sampling.top_p[row], min_p = sampling.min_p[row];
  const bool truncated = (top_k > 0 && top_k < vocab) || top_p < 1.0f || min_p > 0.0f;
  if (!truncated) return draw_from_all(z, padded, key, start);
  truncate(z, vocab, min_p, top_k, top_p, scratch);
  return draw_from(scratch.candidates, key, start);
}

// 1 + the number of tokens that are larger than token `id`, or equal and have a lower id.
int32_t rank_of(const float* logits, int64_t vocab, int32_t id) {
  const float own = logits[id];
  int64_t ahead = 0;
  int64_t i = 0;
  for (; i + 16 <= id; i += 16) ahead += __builtin_popcount(~less_bits(load(logits + i), set1(own)) & 0xffffu);
  for (; i < id; ++i) ahead += logits[i] >= own ? 1 : 0;
  for (++i; i % 16 != 0 && i < vocab; ++i) ahead += logits[i] > own ? 1 : 0;
  for (; i + 16 <= vocab; i += 16) ahead += __builtin_popcount(less_bits(set1(own), load(logits + i)));
  for (; i < vocab; ++i) ahead += logits[i] > own ? 1 : 0;
  return static_cast<int32_t>(ahead + 1);
}

// log(sum of e^value), of values [0, vocab) whose largest is known.
double log_sum_exp(const float* values, int64_t vocab, float largest) {
  if (largest == -INFINITY) return -static_cast<double>(INFINITY);
  return static_cast<double>(largest) + ::log(sum_exp(values, vocab, largest));
}

bool is_allowed(const uint32_t* mask, int32_t id) { return mask == nullptr || (mask[id / 32] >> (id % 32) & 1u) != 0; }

// Log-probability and rank of the row's token, and its most likely tokens.
void describe(const PfStep& step, int64_t row, const float* logits, double log_total, float largest,
              RowScratch& scratch) {
  const PfSampling& sampling = step.sampling;
  const PfSampled& sampled = step.sampled;
  const int64_t vocab = sampling.vocab;
  const int32_t id = sampled.ids[row];
  sampled.logprobs[row] = static_cast<float>(static_cast<double>(logits[id]) - log_total);
  sampled.ranks[row] = rank_of(logits, vocab, id);

  const int64_t wanted = sampling.num_logprobs[row];
  if (wanted <= 0) return;
  Candidates& most_likely = scratch.candidates;
  for (const float below : kFloors) {
    collect(logits, vocab, largest - below, most_likely);
    if (most_likely.count >= wanted) break;
  }
  if (most_likely.count < wanted) collect(logits, vocab, -INFINITY, most_likely);
  if (most_likely.count > wanted) keep_top(most_likely, static_cast<double>(wanted), nullptr);
  sort_candidates(most_likely);
  const int64_t at = row * sampling.max_logprobs;
  for (int64_t i = 0; i < most_likely.count; ++i) {
    sampled.top_ids[at + i] = most_likely.ids[i];
    sampled.top_logprobs[at + i] = static_cast<float>(static_cast<double>(most_likely.values[i]) - log_total);
  }
}

void clear_row(const PfStep& step, int64_t row) {
  const PfSampled& sampled = step.sampled;
  sampled.ids[row] = -1;
  sampled.logprobs[row] = 0.0f;
  sampled.ranks[row] = 0;
  sampled.status[row] = PF_ROW_OK;
  if (sampled.log_allowed != nullptr) sampled.log_allowed[row] = sampled.allowed_logprobs[row] = 0.0f;
  const int64_t width = step.sampling.max_logprobs;
  for (int64_t i = row * width; i < (row + 1) * width; ++i) {
    sampled.top_ids[i] = -1;
    sampled.top_logprobs[i] = 0.0f;
  }
}

void sample_row(const PfStep& step, int64_t row, const float* logits, RowScratch& scratch) {
  const PfSampling& sampling = step.sampling;
  const int64_t vocab = sampling.vocab;
  clear_row(step, row);
  if (step.sampled.logits_out != nullptr && (step.copy_logits != 0 || sampling.defer[row] != 0)) {
    memcpy(step.sampled.logits_out + row * vocab, logits, static_cast<size_t>(vocab) * sizeof(float));
  }
  if (sampling.defer[row] != 0) return;

  const int32_t target = sampling.target[row];
  const bool weighed = sampling.weigh != nullptr && sampling.weigh[row] != 0;
  const uint32_t* mask = nullptr;
  if ((target < 0 || weighed) && sampling.mask_row != nullptr && sampling.mask_row[row] >= 0) {
    mask = sampling.masks + sampling.mask_row[row] * ((vocab + 31) / 32);
  }
  const Scan scan = only_allowed(step, row) != nullptr ? copy_allowed(logits, mask, vocab, scratch.adjusted)
                                                       : copy_masked(logits, mask, vocab, scratch.adjusted);
  if (!scan.finite) {
    step.sampled.status[row] = PF_ROW_NONFINITE;
    return;
  }
  // Penalties and temperature will change the adjusted logits.
  const double log_kept = weighed && mask != nullptr ? log_sum_exp(scratch.adjusted, vocab, scan.largest) : 0.0;
  if (target >= 0) {
    step.sampled.ids[row] = target;
  } else {
    float largest = scan.largest;
    if (adjust(sampling, row, scratch.adjusted)) largest = largest_of(scratch.adjusted, RowScratch::padded(vocab));
    if (largest == -INFINITY) {
      step.sampled.status[row] = PF_ROW_MASK_EMPTY;
      return;
    }
    step.sampled.ids[row] = choose(sampling, row, vocab, largest, scratch);
  }
  if (target < 0 && sampling.num_logprobs[row] < 0 && !weighed) return;
  const double log_total = log_sum_exp(logits, vocab, scan.largest_raw);
  describe(step, row, logits, log_total, scan.largest_raw, scratch);
  if (!weighed) return;
  const int32_t id = step.sampled.ids[row];
  const double log_allowed = mask != nullptr ? log_kept - log_total : 0.0;
  const double own = is_allowed(mask, id) ? static_cast<double>(logits[id]) : -static_cast<double>(INFINITY);
  step.sampled.log_allowed[row] = static_cast<float>(log_allowed < 0.0 ? log_allowed : 0.0);
  step.sampled.allowed_logprobs[row] =
      static_cast<float>(own == -static_cast<double>(INFINITY) ? own : own - (mask != nullptr ? log_kept : log_total));
}

void sample(const PfCall& call, const PfStep& step, Worker& worker) {
  const int64_t vocab = step.sampling.vocab;
  RowScratch scratch(worker.scratch(RowScratch::bytes(vocab)), vocab);
  worker.for_each(step.num_rows, [&](int64_t row) { sample_row(step, row, input_row(call, 0, row), scratch); });
}

}  // namespace

const OpTable& sample_ops() {
  static const OpEntry entries[] = {{"sample", sample}};
  static const OpTable table = {entries, 1};
  return table;
}

}  // namespace pf::PF_ISA
