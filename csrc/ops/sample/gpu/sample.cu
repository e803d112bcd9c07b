// A row is the work of one block, whose thread t owns the tokens t, t + kThreads, ... in every pass over it: only sums
// and the noise, which comes for sixteen-fold neighbours at once, need the block's barrier.
#include "philox.h"
#include "sample.h"
#include "select.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 512;

// Weights of top_p in units of 2^-40: a vocabulary of 2^20 tokens stays below 2^63, and what rounds to 0 is nothing.
constexpr float kWeightUnit = 0x1p40f;

GPU_DEVICE int own_first() { return static_cast<int>(thread_x()); }

// Orders by value, then by ascending token, so that the largest is the winner.
GPU_DEVICE u64 rank_key(float value, int token) {
  return u64{order_key(value)} << 32 | (0xffffffffu - static_cast<uint32_t>(token));
}
GPU_DEVICE int token_of(u64 key) { return static_cast<int>(0xffffffffu - static_cast<uint32_t>(key)); }

// What a value is as long as it is below `limit`.
GPU_DEVICE u64 largest_below(const float* values, int count, u64 limit) {
  u64 best = 0;
  for (int i = own_first(); i < count; i += kThreads) {
    const u64 key = rank_key(values[i], i);
    if (key < limit && key > best) best = key;
  }
  return block_reduce<kThreads>(best, Max{});
}

GPU_DEVICE void clear_row(const SampleArgs& args, int row) {
  const PfSampled& sampled = args.sampled;
  if (thread_x() == 0) {
    sampled.ids[row] = -1;
    sampled.logprobs[row] = 0.0f;
    sampled.ranks[row] = 0;
    sampled.status[row] = PF_ROW_OK;
    if (sampled.log_allowed != nullptr) sampled.log_allowed[row] = sampled.allowed_logprobs[row] = 0.0f;
  }
  for (int i = own_first(); i < args.sampling.max_logprobs; i += kThreads) {
    sampled.top_ids[row * args.sampling.max_logprobs + i] = -1;
    sampled.top_logprobs[row * args.sampling.max_logprobs + i] = 0.0f;
  }
}

// Biases and penalties of the tokens that this thread owns. A token may have several biases.
GPU_DEVICE void adjust(const PfSampling& sampling, int row, float* adjusted) {
  const auto owns = [](int token) { return token % kThreads == own_first() || GPU_PLANTED("sample: anybody adjusts"); };
  if (sampling.bias_start != nullptr) {
    for (int i = sampling.bias_start[row]; i < sampling.bias_start[row + 1]; ++i) {
      const int token = sampling.bias_tokens[i];
      if (owns(token)) adjusted[token] += sampling.bias_values[i];
    }
  }
  if (sampling.count_start == nullptr) return;
  const float repetition = sampling.repetition[row], frequency = sampling.frequency[row];
  const float presence = sampling.presence[row];
  if (repetition == 1.0f && frequency == 0.0f && presence == 0.0f) return;
  for (int i = sampling.count_start[row]; i < sampling.count_start[row + 1]; ++i) {
    const int token = sampling.count_tokens[i], count = sampling.count_values[i];
    if (!owns(token)) continue;
    float x = adjusted[token];
    x = x > 0.0f ? x / repetition : x * repetition;
    x -= frequency * static_cast<float>(count);
    if (count > 0) x -= presence;
    adjusted[token] = x;
  }
}

// The tokens of z (at most 0, its maximum) that min_p, top_k and top_p keep.
GPU_DEVICE Cut truncate(const PfSampling& sampling, int row, const float* z) {
  const int vocab = sampling.vocab;
  const float min_p = sampling.min_p[row], top_p = sampling.top_p[row];
  const int top_k = sampling.top_k[row];
  Cut cut;
  if (min_p > 0.0f) cut.key = order_key(static_cast<float>(log(static_cast<double>(min_p))));
  if (top_k > 0 && top_k < vocab) {
    u64 left = 0;
    for (int i = own_first(); i < vocab; i += kThreads) left += z[i] > -INFINITY && cut.keeps(z[i], i) ? 1 : 0;
    left = block_reduce<kThreads>(left, Sum{});
    const u64 wanted = static_cast<u64>(top_k);
    if (left > wanted) cut = select_top<kThreads>(z, vocab, cut, wanted, [](float) -> u64 { return 1; });
  }
  if (top_p < 1.0f) {
    const auto weight = [](float value) { return static_cast<u64>(expf(value) * kWeightUnit); };
    u64 total = 0;
    for (int i = own_first(); i < vocab; i += kThreads) total += cut.keeps(z[i], i) ? weight(z[i]) : 0;
    total = block_reduce<kThreads>(total, Sum{});
    const u64 target = static_cast<u64>(static_cast<double>(top_p) * static_cast<double>(total));
    cut = select_top<kThreads>(z, vocab, cut, target > 0 ? target : 1, weight);
  }
  return cut;
}

// argmax over the kept tokens of z + gumbel(noise) (E. Gumbel, 1954); `top` is the token of z = 0.
GPU_DEVICE int draw(const PfSampling& sampling, int row, const float* z, const Cut& cut, int top) {
  const uint64_t seed = sampling.seed[row];
  const NoiseKey key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), sampling.stream[row],
                        sampling.position[row]};
  float best = gumbel(philox(key, static_cast<uint32_t>(noise_block_of(top))).words[noise_word_of(top)]);
  u64 winner = rank_key(best, top);
  const int blocks = (sampling.vocab + 63) / 64 * 16;
  for (int block = own_first(); block < blocks; block += kThreads) {
    bool near = false;
    for (int w = 0; w < 4; ++w) {
      const int token = token_of_noise(block, w);
      near |= token < sampling.vocab && z[token] >= best - kLargestGumbel && cut.keeps(z[token], token);
    }
    if (!near) continue;
    const NoiseBlock noise = philox(key, static_cast<uint32_t>(block));
    for (int w = 0; w < 4; ++w) {
      const int token = token_of_noise(block, w);
      if (token >= sampling.vocab || !cut.keeps(z[token], token)) continue;
      // Since -log(u) >= 1 - u, the score can reach the best only if e^(z - best) >= 1 - u: one exponential in place of
      // two double logarithms. 0.999 covers the rounding of both sides.
      const float remainder = static_cast<float>(~noise.words[w]) * (0.999f * 0x1p-32f);
      if (expf(z[token] - best) < remainder) continue;
      const float score = z[token] + gumbel(noise.words[w]);
      const u64 own = rank_key(score, token);
      if (own > winner) winner = own;
      best = fmaxf(best, score);
    }
  }
  return token_of(block_reduce<kThreads>(winner, Max{}));
}

// Log-probability and rank of the row's token, and its most likely tokens.
GPU_DEVICE double describe(const SampleArgs& args, int row, const float* logits, float largest, int id) {
  const int vocab = args.sampling.vocab;
  double total = 0.0;
  u64 ahead = 0;
  const u64 own = rank_key(logits[id], id);
  for (int i = own_first(); i < vocab; i += kThreads) {
    total += static_cast<double>(expf(logits[i] - largest));
    ahead += rank_key(logits[i], i) > own ? 1 : 0;
  }
  total = block_reduce<kThreads>(total, Sum{});
  ahead = block_reduce<kThreads>(ahead, Sum{});
  const double log_total = static_cast<double>(largest) + log(total);
  if (thread_x() == 0) {
    args.sampled.logprobs[row] = static_cast<float>(static_cast<double>(logits[id]) - log_total);
    args.sampled.ranks[row] = static_cast<int>(ahead) + 1;
  }
  const int table = row * args.sampling.max_logprobs;
  u64 limit = ~u64{0};
  for (int i = 0; i < args.sampling.num_logprobs[row]; ++i) {
    limit = largest_below(logits, vocab, limit);
    const int token = token_of(limit);
    if (limit == 0 || !(logits[token] > -INFINITY)) break;  // fewer tokens than wanted
    if (thread_x() == 0) {
      args.sampled.top_ids[table + i] = token;
      args.sampled.top_logprobs[table + i] = static_cast<float>(static_cast<double>(logits[token]) - log_total);
    }
  }
  return log_total;
}

// The largest value of a key that order_key made.
GPU_DEVICE float value_of(u64 key) {
  const auto bits = static_cast<uint32_t>(key >> 32);
  return detail::as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

// log(sum of e^value) of the tokens that the mask left; -inf if it left none.
GPU_DEVICE double log_mass(const float* adjusted, int vocab) {
  const float largest = value_of(largest_below(adjusted, vocab, ~u64{0}));
  if (largest == -INFINITY) return -static_cast<double>(INFINITY);
  double total = 0.0;
  for (int i = own_first(); i < vocab; i += kThreads) total += static_cast<double>(expf(adjusted[i] - largest));
  return static_cast<double>(largest) + log(block_reduce<kThreads>(total, Sum{}));
}

// A step has fewer rows than a GPU has room for, so one block may have the registers: left alone, nvcc makes room for
// three on sm_90, and puts some into local memory.
GPU_KERNEL(kThreads, 1) void sample_kernel(SampleArgs args) {
  const int row = static_cast<int>(block_x());
  const PfSampling& sampling = args.sampling;
  const int vocab = sampling.vocab;
  const float* logits = args.logits + row * args.stride;
  float* adjusted = args.scratch + static_cast<int64_t>(row) * vocab;
  clear_row(args, row);
  if (args.sampled.logits_out != nullptr && (args.copy_logits || sampling.defer[row] != 0)) {
    float* copy = args.sampled.logits_out + static_cast<int64_t>(row) * vocab;
    for (int i = own_first(); i < vocab; i += kThreads) copy[i] = logits[i];
  }
  if (sampling.defer[row] != 0) return;

  const int target = sampling.target[row];
  const bool weighed = sampling.weigh != nullptr && sampling.weigh[row] != 0;
  const uint32_t* mask = nullptr;
  if ((target < 0 || weighed) && sampling.mask_row != nullptr && sampling.mask_row[row] >= 0) {
    mask = sampling.masks + static_cast<int64_t>(sampling.mask_row[row]) * ((vocab + 31) / 32);
  }
  // A row that only samples under a mask reads nothing but the logits which the mask allows: the others may be missing.
  const bool whole = mask == nullptr || args.copy_logits || sampling.num_logprobs[row] >= 0 || weighed;
  u64 largest_raw = 0;
  int bad = 0;
  for (int i = own_first(); i < vocab || GPU_PLANTED("sample: past the vocabulary"); i += kThreads) {
    const bool allowed = mask == nullptr || (mask[i / 32] >> (i % 32) & 1u) != 0;
    const float x = allowed || whole ? logits[i] : -INFINITY;
    if (!(x < INFINITY)) bad = 1;
    const u64 key = rank_key(x, i);
    if (key > largest_raw) largest_raw = key;
    adjusted[i] = allowed ? x : -INFINITY;
  }
  bad = block_reduce<kThreads>(bad, Max{});
  largest_raw = block_reduce<kThreads>(largest_raw, Max{});
  const float top_raw = value_of(largest_raw);
  if (bad != 0 || (whole && top_raw == -INFINITY)) {
    if (thread_x() == 0) args.sampled.status[row] = PF_ROW_NONFINITE;
    return;
  }

  // Penalties and temperature will change the adjusted logits.
  const double log_kept = weighed && mask != nullptr ? log_mass(adjusted, vocab) : 0.0;
  int id = target;
  if (target < 0) {
    adjust(sampling, row, adjusted);
    const u64 best = largest_below(adjusted, vocab, ~u64{0});
    const float largest = value_of(best), temperature = sampling.temperature[row];
    if (largest == -INFINITY) {
      if (thread_x() == 0) args.sampled.status[row] = PF_ROW_MASK_EMPTY;
      return;
    }
    id = token_of(best);
    if (temperature != 0.0f) {
      for (int i = own_first(); i < vocab; i += kThreads) adjusted[i] = (adjusted[i] - largest) / temperature;
      const Cut cut = truncate(sampling, row, adjusted);
      block_sync();  // the noise pass has other owners
      id = draw(sampling, row, adjusted, cut, id);
    }
  }
  if (thread_x() == 0) args.sampled.ids[row] = id;
  if (target < 0 && sampling.num_logprobs[row] < 0 && !weighed) return;
  const double log_total = describe(args, row, logits, top_raw, id);
  if (!weighed || thread_x() != 0) return;
  const bool allowed = mask == nullptr || (mask[id / 32] >> (id % 32) & 1u) != 0;
  const double own = allowed ? static_cast<double>(logits[id]) : -static_cast<double>(INFINITY);
  const double log_allowed = mask == nullptr ? 0.0 : log_kept - log_total;
  args.sampled.log_allowed[row] = static_cast<float>(log_allowed < 0.0 ? log_allowed : 0.0);
  args.sampled.allowed_logprobs[row] =
      static_cast<float>(own == -static_cast<double>(INFINITY) ? own : own - (mask == nullptr ? log_total : log_kept));
}

}  // namespace

void sample(const SampleArgs& args, Stream stream) {
  if (args.rows == 0) return;
  GPU_LAUNCH(sample_kernel, Dim3{static_cast<unsigned>(args.rows)}, kThreads, 0, stream, args);
}

}  // namespace pf::gpu
