// The GPU's sampling against its contract (ops/sample/sample.h), read literally: sort, cut, add noise, take the best.
#include "ops/sample/gpu/sample.h"

#include <cstring>

#include "harness.h"
#include "ops/sample/gpu/philox.h"

namespace pf {
namespace {

using simt::Device;

// One row's parameters.
struct Row {
  float temperature = 0, top_p = 1, min_p = 0;
  int top_k = 0;
  float repetition = 1, presence = 0, frequency = 0;
  int num_logprobs = -1, target = -1, mask_row = -1;
  bool defer = false, weigh = false;
  uint64_t seed = 7;
  uint32_t stream = 0, position = 0;
  std::vector<std::pair<int, float>> biases = {};
  std::vector<std::pair<int, int>> counts = {};
};

struct Answer {
  int id = -1, rank = 0, status = PF_ROW_OK;
  double logprob = 0, log_allowed = 0, allowed_logprob = 0;
  std::vector<int> top_ids;
  std::vector<double> top_logprobs;
};

constexpr int kTable = 6;

// Tokens by descending value, then ascending id.
std::vector<int> sorted(const std::vector<double>& values) {
  std::vector<int> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::ranges::stable_sort(
      order, [&](int a, int b) { return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)]; });
  return order;
}

// Word of a token's noise, by the layout of the contract.
float noise_of(const Row& row, int token) {
  const gpu::NoiseKey key = {static_cast<uint32_t>(row.seed), static_cast<uint32_t>(row.seed >> 32), row.stream,
                             row.position};
  const auto block = static_cast<uint32_t>(16 * (token / 64) + token % 16);
  return gpu::gumbel(gpu::philox(key, block).words[token % 64 / 16]);
}

Answer answer_of(const Row& row, const std::vector<float>& logits, const std::vector<uint32_t>& masks) {
  Answer answer;
  answer.top_ids.assign(kTable, -1);
  answer.top_logprobs.assign(kTable, 0.0);
  if (row.defer) return answer;
  const size_t vocab = logits.size();
  std::vector<double> raw(logits.begin(), logits.end());
  const auto allowed = [&](size_t i) {
    if (row.mask_row < 0 || (row.target >= 0 && !row.weigh)) return true;
    const uint32_t word = masks[static_cast<size_t>(row.mask_row) * ((vocab + 31) / 32) + i / 32];
    return (word >> (i % 32) & 1u) != 0;
  };
  // A row that only samples under a mask reads no other logits.
  const bool whole = row.mask_row < 0 || row.target >= 0 || row.num_logprobs >= 0 || row.weigh;
  bool usable = !whole;
  for (size_t i = 0; i < vocab; ++i) {
    if (!whole && !allowed(i)) continue;
    if (std::isnan(raw[i]) || raw[i] == INFINITY) return answer.status = PF_ROW_NONFINITE, answer;
    usable |= raw[i] > -INFINITY;
  }
  if (!usable) return answer.status = PF_ROW_NONFINITE, answer;
  if (row.target >= 0) {
    answer.id = row.target;
  } else {
    std::vector<float> x = logits;
    for (size_t i = 0; i < vocab; ++i) {
      if (!allowed(i)) x[i] = -INFINITY;
    }
    for (const auto& [token, bias] : row.biases) x[static_cast<size_t>(token)] += bias;
    for (const auto& [token, count] : row.counts) {
      float& v = x[static_cast<size_t>(token)];
      v = v > 0 ? v / row.repetition : v * row.repetition;
      v -= row.frequency * static_cast<float>(count);
      if (count > 0) v -= row.presence;
    }
    std::vector<int> order = sorted({x.begin(), x.end()});
    const float largest = x[static_cast<size_t>(order[0])];
    if (largest == -INFINITY) return answer.status = PF_ROW_MASK_EMPTY, answer;
    answer.id = order[0];
    if (row.temperature > 0) {
      std::vector<float> z(vocab);
      for (size_t i = 0; i < vocab; ++i) z[i] = (x[i] - largest) / row.temperature;
      const auto at = [&](int token) { return static_cast<double>(z[static_cast<size_t>(token)]); };
      std::erase_if(order, [&](int t) {
        return at(t) == -INFINITY ||
               (row.min_p > 0 && at(t) < static_cast<float>(std::log(static_cast<double>(row.min_p))));
      });
      if (row.top_k > 0 && order.size() > static_cast<size_t>(row.top_k)) order.resize(static_cast<size_t>(row.top_k));
      if (row.top_p < 1) {
        double total = 0, before = 0;
        for (const int t : order) total += std::exp(at(t));
        size_t kept = 0;
        while (kept < order.size() && before < row.top_p * total) before += std::exp(at(order[kept++]));
        order.resize(kept);
      }
      float best = -INFINITY;
      std::ranges::sort(order);
      for (const int t : order) {
        const float score = z[static_cast<size_t>(t)] + noise_of(row, t);
        if (score > best) {
          best = score;
          answer.id = t;
        }
      }
    }
  }
  if (row.target < 0 && row.num_logprobs < 0 && !row.weigh) return answer;
  double total = 0;
  for (const double v : raw) total += std::exp(v - *std::ranges::max_element(raw));
  const double log_total = *std::ranges::max_element(raw) + std::log(total);
  const std::vector<int> order = sorted(raw);
  answer.logprob = raw[static_cast<size_t>(answer.id)] - log_total;
  if (row.weigh) {
    double kept = 0;
    for (size_t i = 0; i < vocab; ++i) kept += allowed(i) ? std::exp(raw[i] - log_total) : 0;
    answer.log_allowed = std::log(kept);
    answer.allowed_logprob = allowed(static_cast<size_t>(answer.id)) ? answer.logprob - std::log(kept) : -INFINITY;
  }
  answer.rank = static_cast<int>(std::ranges::find(order, answer.id) - order.begin()) + 1;
  for (int i = 0; i < row.num_logprobs && i < static_cast<int>(vocab); ++i) {
    const double v = raw[static_cast<size_t>(order[static_cast<size_t>(i)])];
    if (v == -INFINITY) break;
    answer.top_ids[static_cast<size_t>(i)] = order[static_cast<size_t>(i)];
    answer.top_logprobs[static_cast<size_t>(i)] = v - log_total;
  }
  return answer;
}

// A column of the rows' parameters, on the device.
template <class T, class F>
Array<T> column(Device& device, const std::vector<Row>& rows, const char* name, F value) {
  std::vector<T> values;
  for (const Row& row : rows) values.push_back(static_cast<T>(value(row)));
  return Array<T>(device, values, name);
}
#define PF_COLUMN(T, name) const Array<T> name = column<T>(device, rows, #name, [](const Row& r) { return r.name; })

std::string run_sample(Device& device, const std::vector<Row>& rows, const std::vector<float>& logits, int vocab,
                       const std::vector<uint32_t>& masks) {
  const size_t n = rows.size(), stride = logits.size() / n;
  PF_COLUMN(float, temperature);
  PF_COLUMN(float, top_p);
  PF_COLUMN(float, min_p);
  PF_COLUMN(int32_t, top_k);
  PF_COLUMN(float, repetition);
  PF_COLUMN(float, presence);
  PF_COLUMN(float, frequency);
  PF_COLUMN(uint64_t, seed);
  PF_COLUMN(uint32_t, stream);
  PF_COLUMN(uint32_t, position);
  PF_COLUMN(int32_t, num_logprobs);
  PF_COLUMN(int32_t, target);
  PF_COLUMN(uint8_t, defer);
  PF_COLUMN(uint8_t, weigh);
  PF_COLUMN(int32_t, mask_row);
  std::vector<int32_t> bias_start{0}, bias_tokens, count_start{0}, count_tokens, count_values;
  std::vector<float> bias_values;
  for (const Row& row : rows) {
    for (const auto& [token, value] : row.biases) bias_tokens.push_back(token), bias_values.push_back(value);
    for (const auto& [token, value] : row.counts) count_tokens.push_back(token), count_values.push_back(value);
    bias_start.push_back(static_cast<int32_t>(bias_tokens.size()));
    count_start.push_back(static_cast<int32_t>(count_tokens.size()));
  }
  const Array<uint32_t> dmasks(device, masks, "masks");
  const Array<int32_t> dbias_start(device, bias_start, "bias_start"), dbias_tokens(device, bias_tokens, "bias_tokens"),
      dcount_start(device, count_start, "count_start"), dcount_tokens(device, count_tokens, "count_tokens"),
      dcount_values(device, count_values, "count_values");
  const Array<float> dbias_values(device, bias_values, "bias_values"), dlogits(device, logits, "logits"),
      scratch(device, n * static_cast<size_t>(vocab), "scratch");
  const Array<int32_t> ids(device, n, "ids"), ranks(device, n, "ranks"), top_ids(device, n * kTable, "top_ids");
  const Array<float> logprobs(device, n, "logprobs"), top_logprobs(device, n * kTable, "top_logprobs"),
      log_allowed(device, n, "log_allowed"), allowed_logprobs(device, n, "allowed_logprobs"),
      logits_out(device, std::vector<float>(n * static_cast<size_t>(vocab), 5.0f), "logits_out");
  const Array<uint8_t> status(device, n, "status");

  gpu::SampleArgs args{};
  args.logits = dlogits.get();
  args.stride = static_cast<int64_t>(stride);
  args.rows = static_cast<int>(n);
  args.scratch = scratch.get();
  args.sampling = {temperature.get(),
                   top_p.get(),
                   min_p.get(),
                   top_k.get(),
                   repetition.get(),
                   presence.get(),
                   frequency.get(),
                   seed.get(),
                   stream.get(),
                   position.get(),
                   num_logprobs.get(),
                   target.get(),
                   defer.get(),
                   mask_row.get(),
                   dmasks.get(),
                   dbias_start.get(),
                   dbias_tokens.get(),
                   dbias_values.get(),
                   dcount_start.get(),
                   dcount_tokens.get(),
                   dcount_values.get(),
                   static_cast<int32_t>(masks.size()),
                   kTable,
                   vocab,
                   weigh.get()};
  args.sampled = {ids.get(),    logprobs.get(),   ranks.get(),       top_ids.get(),         top_logprobs.get(),
                  status.get(), logits_out.get(), log_allowed.get(), allowed_logprobs.get()};
  gpu::sample(args, &device);

  for (size_t r = 0; r < n; ++r) {
    const std::vector<float> row_logits(&logits[r * stride], &logits[r * stride] + vocab);
    const Answer wanted = answer_of(rows[r], row_logits, masks);
    const auto wrong = [&](const char* what, double got, double want) {
      return std::string(what) + " of row " + std::to_string(r) + " is " + std::to_string(got) + ", not " +
             std::to_string(want);
    };
    if (status.values()[r] != wanted.status) return wrong("status", status.values()[r], wanted.status);
    if (ids.values()[r] != wanted.id) return wrong("id", ids.values()[r], wanted.id);
    if (ranks.values()[r] != wanted.rank) return wrong("rank", ranks.values()[r], wanted.rank);
    if (!(std::abs(logprobs.values()[r] - wanted.logprob) < 1e-5))
      return wrong("logprob", logprobs.values()[r], wanted.logprob);
    const auto near = [](double got, double want) { return got == want || std::abs(got - want) < 1e-5; };
    if (!near(log_allowed.values()[r], wanted.log_allowed))
      return wrong("log_allowed", log_allowed.values()[r], wanted.log_allowed);
    if (!near(allowed_logprobs.values()[r], wanted.allowed_logprob))
      return wrong("allowed logprob", allowed_logprobs.values()[r], wanted.allowed_logprob);
    for (size_t i = 0; i < kTable; ++i) {
      const size_t at = r * kTable + i;
      if (top_ids.values()[at] != wanted.top_ids[i]) return wrong("top id", top_ids.values()[at], wanted.top_ids[i]);
      if (!(std::abs(top_logprobs.values()[at] - wanted.top_logprobs[i]) < 1e-5)) {
        return wrong("top logprob", top_logprobs.values()[at], wanted.top_logprobs[i]);
      }
    }
    if (rows[r].defer) {
      const std::vector<float> all = logits_out.values();
      if (!std::equal(row_logits.begin(), row_logits.end(), all.begin() + static_cast<long>(r) * vocab))
        return "logits of a deferred row";
    }
  }
  return "";
}

std::vector<uint32_t> random_masks(size_t words, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<uint32_t> masks(words);
  for (uint32_t& word : masks) word = static_cast<uint32_t>(generator());
  return masks;
}

// Every way a row can go, over a vocabulary that fills no block evenly; logits are padded with what must not be read.
std::string run_every_way(Device& device) {
  constexpr int kVocab = 1237, kCols = 1240;
  std::vector<Row> rows;
  rows.push_back({});                     // greedy
  rows.push_back({.temperature = 1.0f});  // the whole vocabulary
  rows.push_back({.temperature = 0.8f, .top_k = 5});
  rows.push_back({.temperature = 1.5f, .top_p = 0.7f, .seed = 3});
  rows.push_back({.temperature = 2.0f, .min_p = 0.05f, .num_logprobs = 6});
  rows.push_back({.temperature = 1.2f, .top_p = 0.9f, .min_p = 0.001f, .top_k = 40, .num_logprobs = 0, .stream = 4});
  rows.push_back({.num_logprobs = 3, .target = 17});  // scored
  rows.push_back({.defer = true});
  rows.push_back({.temperature = 1.0f, .mask_row = 1, .position = 9});
  rows.push_back({.mask_row = 0});  // nothing allowed
  rows.push_back({.num_logprobs = 2, .biases = {{3, 9.0f}, {3, 8.0f}, {800, -INFINITY}}});
  rows.push_back({.temperature = 0.9f,
                  .repetition = 1.7f,
                  .presence = 0.5f,
                  .frequency = 0.25f,
                  .counts = {{0, 2}, {5, 0}, {700, 1}, {1236, 4}}});
  rows.push_back({.temperature = 1.0f});  // of a NaN
  rows.push_back({.temperature = 0.7f, .presence = 0.5f, .mask_row = 1, .weigh = true, .counts = {{4, 2}, {9, 1}}});
  rows.push_back({.temperature = 1.0f, .weigh = true});
  rows.push_back({.target = 17, .mask_row = 1, .weigh = true});
  rows.push_back({.target = 18, .mask_row = 1, .weigh = true});
  rows.push_back({.target = 5, .mask_row = 0, .weigh = true});  // nothing allowed
  std::vector<float> logits = normal_values(rows.size() * kCols, 11, 3.0f);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = kVocab; i < kCols; ++i) logits[r * kCols + i] = NAN;
  }
  logits[12 * kCols + 700] = NAN;
  std::vector<uint32_t> masks = random_masks(2 * ((kVocab + 31) / 32), 5);
  std::fill(masks.begin(), masks.begin() + (kVocab + 31) / 32, 0u);
  for (size_t i = 0; i < kVocab; ++i) {  // what a mask forbids may hold anything
    if ((masks[(kVocab + 31) / 32 + i / 32] >> (i % 32) & 1u) == 0) logits[8 * kCols + i] = NAN;
  }
  return run_sample(device, rows, logits, kVocab, masks);
}

TEST(SimtSample, EveryWayOfARow) { expect_right(run_every_way); }

// Ties at every cut: few values, each of many tokens.
std::string run_ties(Device& device, const std::vector<Row>& rows) {
  constexpr int kVocab = 600;
  std::vector<float> logits = normal_values(rows.size() * kVocab, 12, 1.0f);
  for (float& x : logits) x = std::round(x);
  return run_sample(device, rows, logits, kVocab, {});
}

TEST(SimtSample, TiesGoToTheLowerToken) {
  std::vector<Row> rows;
  for (const int top_k : {1, 64, 599}) rows.push_back({.temperature = 1.0f, .top_k = top_k, .num_logprobs = 5});
  for (const float top_p : {0.01f, 0.77f, 0.999f}) rows.push_back({.temperature = 1.0f, .top_p = top_p, .seed = 5});
  expect_right([&](Device& device) { return run_ties(device, rows); });
}

TEST(SimtSample, SmallVocabularies) {
  for (const int vocab : {1, 2, 17, 65}) {
    expect_right([&](Device& device) {
      const std::vector<Row> rows = {
          {.num_logprobs = 6}, {.temperature = 1.0f, .top_p = 0.5f, .top_k = 2}, {.temperature = 3.0f}};
      return run_sample(device, rows, normal_values(rows.size() * static_cast<size_t>(vocab), 13), vocab, {});
    });
  }
}

TEST(SimtSample, NoiseIsPhilox) {
  // Known answers of the published generator: counter 0 and key 0.
  const gpu::NoiseBlock zero = gpu::philox({0, 0, 0, 0}, 0);
  EXPECT_EQ(zero.words[0], 0x6627e8d5u);
  EXPECT_EQ(zero.words[1], 0xe169c58du);
  EXPECT_EQ(zero.words[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.words[3], 0x9b00dbd8u);
}

TEST(SimtSample, MutantsAreNoticed) {
  const std::vector<Row> rows = {
      {.temperature = 1.0f},
      {.temperature = 1.0f, .top_p = 0.9f, .top_k = 64, .num_logprobs = 2, .biases = {{3, 1.0f}}}};
  expect_mutants_caught([&](Device& device) { return run_ties(device, rows); },
                        {.block_syncs = 6, .plants = {"sample: anybody adjusts", "sample: past the vocabulary"}});
}

}  // namespace
}  // namespace pf
