// The ops of the CPU backend, driven through its C interface on every instruction set of this machine. Operands lie in
// memory of exactly their size, so that a sanitized build sees a read or write past any end; values are compared with
// plain loops in double. Python compares the same ops with torch over drawn shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ops/cpu/half.h"
#include "ops/cpu/kernels.h"
#include "runtime/backend_loader.h"

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One device, and calls that run on it alone.
class Ops {
 public:
  Ops(const std::string& isa, int threads) : backend_(pf::load_backend(PF_CPU_BACKEND_PATH)) {
    PfDeviceConfig config{};
    config.num_threads = threads;
    config.isa = isa.c_str();
    usable_ = backend_.device_create(&config, &device_) == 0;
  }
  ~Ops() {
    if (usable_) backend_.device_destroy(device_);
  }
  bool usable() const { return usable_; }
  void run(const char* name, PfCall call, const PfStep& step) {
    call.op = backend_.find_op(name);
    ASSERT_GE(call.op, 0) << name;
    ASSERT_EQ(backend_.execute(device_, &call, 1, &step), 0) << backend_.last_error();
  }

 private:
  const PfBackend& backend_;
  PfDevice* device_ = nullptr;
  bool usable_ = false;
};

std::vector<float> normal(size_t n, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = distribution(generator);
  return values;
}

PfTensor tensor(std::vector<float>& values, int64_t rows) {
  const auto cols = static_cast<int64_t>(values.size()) / rows;
  return {values.data(), rows, cols, cols, PF_F32};
}

class CpuOps : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!Ops(GetParam(), 1).usable()) GTEST_SKIP() << "this machine cannot run " << GetParam();
  }
};
INSTANTIATE_TEST_SUITE_P(EveryIsa, CpuOps, ::testing::Values("generic", "avx2", "avxvnni", "avx512", "avx512vnni"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(CpuOps, RmsNormOfAnyWidth) {
  Ops ops(GetParam(), 2);
  for (const size_t width : {1, 15, 16, 17, 40}) {
    std::vector<float> x = normal(3 * 2 * width, 1, 2.0f), weight = normal(width, 2), y(x.size());
    PfCall call{};
    call.in[0] = tensor(x, 3);
    call.out[0] = tensor(y, 3);
    call.vector = weight.data();
    call.vector_len = static_cast<int64_t>(width);
    call.ints[0] = 2;
    call.floats[0] = 1e-5;
    ops.run("rms_norm", call, PfStep{});
    for (size_t group = 0; group < 6; ++group) {
      double squares = 0;
      for (size_t i = 0; i < width; ++i) squares += std::pow(x[group * width + i], 2);
      for (size_t i = 0; i < width; ++i) {
        const double wanted = x[group * width + i] / std::sqrt(squares / static_cast<double>(width) + 1e-5) * weight[i];
        EXPECT_NEAR(y[group * width + i], wanted, 1e-5) << width;
      }
    }
  }
}

TEST_P(CpuOps, SiluMulOfAnyWidthAndSize) {
  Ops ops(GetParam(), 2);
  for (const size_t width : {1, 16, 21, 530}) {
    std::vector<float> x = normal(2 * 2 * width, 3, 40.0f), y(2 * width);
    x[0] = -kInfinity;
    x[width] = 1.0f;
    PfCall call{};
    call.in[0] = tensor(x, 2);
    call.out[0] = tensor(y, 2);
    ops.run("silu_mul", call, PfStep{});
    for (size_t i = 1; i < y.size(); ++i) {
      const size_t row = i / width, col = i % width;
      const double gate = x[row * 2 * width + col], up = x[row * 2 * width + width + col];
      EXPECT_NEAR(y[i], gate / (1 + std::exp(-gate)) * up, 1e-6 * std::abs(gate * up) + 1e-30);
    }
  }
}

// --- attention -------------------------------------------------------------------------------------------------------

constexpr int kHeads = 6, kKvHeads = 2, kDim = 20, kBlock = 16;

// One sequence whose whole context is written at once and whose last `queries` tokens attend.
struct AttentionCase {
  PfDType dtype;
  int64_t window;
  int context, queries;
};

// Gives back the output; the cache is laid out by hand in memory of its exact size.
std::vector<float> attend(Ops& ops, const AttentionCase& c, std::vector<float>& q, std::vector<float>& k,
                          std::vector<float>& v) {
  const int blocks = (c.context + kBlock - 1) / kBlock;
  const PfKvShape shape = {1, kKvHeads, kDim, kBlock, blocks, c.dtype};
  std::vector<char> memory(pf::cpu_kv_at(shape, nullptr).block_bytes * static_cast<size_t>(blocks),
                           static_cast<char>(0xff));  // of unwritten scales none is a number
  pf::CpuKvCache cache = pf::cpu_kv_at(shape, memory.data());
  std::vector<int32_t> table(static_cast<size_t>(blocks)), slots(static_cast<size_t>(c.context));
  for (int i = 0; i < blocks; ++i) table[static_cast<size_t>(i)] = blocks - 1 - i;
  for (int i = 0; i < c.context; ++i) {
    slots[static_cast<size_t>(i)] = table[static_cast<size_t>(i / kBlock)] * kBlock + i % kBlock;
  }
  const int32_t starts[] = {0, c.queries}, lengths[] = {c.context};
  PfStep step{};
  step.kv = reinterpret_cast<PfKvCache*>(&cache);
  step.num_tokens = c.context;
  step.slots = slots.data();
  PfCall write{};
  write.in[0] = tensor(k, c.context);
  write.in[1] = tensor(v, c.context);
  write.ints[1] = kKvHeads;
  write.ints[2] = kDim;
  ops.run("cache_write", write, step);

  step.num_tokens = c.queries;
  step.num_seqs = 1;
  step.query_start = starts;
  step.seq_lens = lengths;
  step.block_tables = table.data();
  step.max_blocks = blocks;
  std::vector<float> out(q.size());
  PfCall call{};
  call.in[0] = tensor(q, c.queries);
  call.out[0] = tensor(out, c.queries);
  call.ints[1] = kHeads;
  call.ints[2] = kKvHeads;
  call.ints[3] = kDim;
  call.ints[4] = c.window;
  call.floats[0] = 0.25;
  ops.run("attention", call, step);
  return out;
}

double attended(const AttentionCase& c, const std::vector<float>& q, const std::vector<float>& k,
                const std::vector<float>& v, int query, int head, int channel) {
  const int position = c.context - c.queries + query, kv_head = head / (kHeads / kKvHeads);
  const auto rounded = [&](const std::vector<float>& values, size_t first, size_t d, int bits) {
    const float x = values[first + d];
    if (c.dtype == PF_F32) return x;
    if (c.dtype == PF_F16) return pf::half_to_float(pf::float_to_half(x));
    float largest = 0;
    for (size_t i = 0; i < kDim; ++i) largest = std::max(largest, std::abs(values[first + i]));
    const float scale = c.dtype == PF_I8 ? largest / 127.0f : std::ldexp(1.0f, std::ilogb(largest) + 1 - bits);
    return std::nearbyint(x / scale) * scale;
  };
  double total = 0, sum = 0;
  for (int p = 0; p <= position; ++p) {
    if (c.window > 0 && p + c.window <= position) continue;
    const size_t row = (static_cast<size_t>(p) * kKvHeads + static_cast<size_t>(kv_head)) * kDim;
    double score = 0;
    for (size_t d = 0; d < kDim; ++d) {
      score += double{q[(static_cast<size_t>(query) * kHeads + static_cast<size_t>(head)) * kDim + d]} *
               rounded(k, row, d, 13);
    }
    const double weight = std::exp(0.25 * score);
    total += weight;
    sum += weight * rounded(v, row, static_cast<size_t>(channel), 12);
  }
  return sum / total;
}

TEST_P(CpuOps, AttentionIsTheFormulaWithTheSameBitsOnAnyNumberOfThreads) {
  Ops one(GetParam(), 1), three(GetParam(), 3);
  for (const AttentionCase& c :
       {AttentionCase{PF_F32, 0, 1, 1}, AttentionCase{PF_F16, 0, 37, 37}, AttentionCase{PF_F32, 10, 70, 23},
        AttentionCase{PF_F16, 0, 1100, 1}, AttentionCase{PF_F32, 600, 1500, 2}, AttentionCase{PF_I8, 0, 37, 37},
        AttentionCase{PF_I8, 10, 70, 23}, AttentionCase{PF_I8, 0, 1100, 1}, AttentionCase{PF_I16, 0, 37, 37},
        AttentionCase{PF_I16, 10, 70, 23}, AttentionCase{PF_I16, 0, 1100, 1}}) {
    std::vector<float> q = normal(static_cast<size_t>(c.queries) * kHeads * kDim, 4);
    std::vector<float> k = normal(static_cast<size_t>(c.context) * kKvHeads * kDim, 5);
    std::vector<float> v = normal(k.size(), 6);
    const std::vector<float> out = attend(one, c, q, k, v);
    EXPECT_EQ(attend(three, c, q, k, v), out);
    for (int query = 0; query < c.queries; query += 5) {
      for (int head = 0; head < kHeads; ++head) {
        for (int d = 0; d < kDim; d += 3) {
          const size_t at = (static_cast<size_t>(query) * kHeads + static_cast<size_t>(head)) * kDim;
          EXPECT_NEAR(out[at + static_cast<size_t>(d)], attended(c, q, k, v, query, head, d),
                      c.dtype == PF_I16  ? 6e-4
                      : c.dtype == PF_I8 ? 1e-4
                                         : 3e-6);
        }
      }
    }
  }
}

// --- sampling --------------------------------------------------------------------------------------------------------

// Parameters and answers of some rows, greedy unless changed.
struct Rows {
  explicit Rows(size_t rows, int vocab, int max_logprobs = 0)
      : ones(rows, 1.0f),
        zeros(rows, 0.0f),
        temperature(rows, 0.0f),
        top_p(rows, 1.0f),
        min_p(rows, 0.0f),
        top_k(rows, 0),
        num_logprobs(rows, max_logprobs > 0 ? max_logprobs : -1),
        target(rows, -1),
        mask_row(rows, -1),
        seed(rows, 7),
        words(rows, 0),
        defer(rows, 0),
        weigh(rows, 1),
        ids(rows, -9),
        ranks(rows, -9),
        top_ids(rows * static_cast<size_t>(max_logprobs), -9),
        logprobs(rows, -9.0f),
        top_logprobs(top_ids.size(), -9.0f),
        log_allowed(rows, -9.0f),
        allowed_logprobs(rows, -9.0f),
        status(rows, 99) {
    step.num_rows = static_cast<int32_t>(rows);
    PfSampling& s = step.sampling;
    s.temperature = temperature.data();
    s.top_p = top_p.data();
    s.min_p = min_p.data();
    s.top_k = top_k.data();
    s.repetition = ones.data();
    s.presence = s.frequency = zeros.data();
    s.seed = seed.data();
    s.stream = s.position = words.data();
    s.num_logprobs = num_logprobs.data();
    s.target = target.data();
    s.defer = defer.data();
    s.mask_row = mask_row.data();
    s.vocab = vocab;
    s.max_logprobs = max_logprobs;
    s.weigh = weigh.data();
    step.sampled = {ids.data(),    logprobs.data(), ranks.data(),       top_ids.data(),         top_logprobs.data(),
                    status.data(), nullptr,         log_allowed.data(), allowed_logprobs.data()};
  }
  std::vector<float> ones, zeros, temperature, top_p, min_p;
  std::vector<int32_t> top_k, num_logprobs, target, mask_row;
  std::vector<uint64_t> seed;
  std::vector<uint32_t> words;
  std::vector<uint8_t> defer, weigh;
  std::vector<int32_t> ids, ranks, top_ids;
  std::vector<float> logprobs, top_logprobs, log_allowed, allowed_logprobs;
  std::vector<uint8_t> status;
  PfStep step{};
};

void sample(Ops& ops, std::vector<float>& logits, Rows& rows) {
  PfCall call{};
  call.in[0] = tensor(logits, rows.step.num_rows);
  ops.run("sample", call, rows.step);
}

TEST_P(CpuOps, SampleStaysInsideAnyVocabulary) {
  Ops ops(GetParam(), 2);
  for (const int vocab : {1, 15, 16, 17, 63, 64, 65, 1000}) {
    std::vector<float> logits = normal(8 * static_cast<size_t>(vocab), 8, 3.0f);
    Rows rows(8, vocab, vocab < 5 ? vocab : 5);
    rows.temperature = {0, 1, 1, 1, 1, 9, 1, 1e-20f};
    rows.top_k = {0, 0, 3, 0, 0, 0, 2, 0};
    rows.top_p = {1, 1, 1, 0.7f, 1, 0.99f, 0.5f, 1};
    rows.min_p = {0, 0, 0, 0, 0.2f, 0, 0, 0};
    sample(ops, logits, rows);
    for (size_t r = 0; r < 8; ++r) {
      EXPECT_EQ(rows.status[r], PF_ROW_OK);
      EXPECT_GE(rows.ids[r], 0);
      EXPECT_LT(rows.ids[r], vocab);
      EXPECT_GE(rows.ranks[r], 1);
      EXPECT_LE(rows.ranks[r], vocab);
    }
    EXPECT_EQ(rows.ids[0], rows.top_ids[0]);
    EXPECT_EQ(rows.ids[7], rows.top_ids[7 * static_cast<size_t>(rows.step.sampling.max_logprobs)]);
  }
}

TEST_P(CpuOps, SampleIgnoresPaddingAndReportsWhatItCannotSample) {
  Ops ops(GetParam(), 3);
  constexpr int kVocab = 40, kCols = 48;
  std::vector<float> logits = normal(5 * kCols, 9);
  for (size_t r = 0; r < 5; ++r) logits[r * kCols + kVocab] = r % 2 == 0 ? kInfinity : std::nanf("");
  logits[1 * kCols + 39] = std::nanf("");
  logits[2 * kCols + 3] = kInfinity;
  for (size_t i = 0; i < kVocab; ++i) logits[3 * kCols + i] = -kInfinity;
  Rows rows(5, kVocab);
  const uint32_t masks[] = {0, 0};
  rows.mask_row = {-1, -1, -1, -1, 0};
  rows.step.sampling.masks = masks;
  rows.step.sampling.num_masks = 1;
  sample(ops, logits, rows);
  const std::vector<uint8_t> wanted = {PF_ROW_OK, PF_ROW_NONFINITE, PF_ROW_NONFINITE, PF_ROW_NONFINITE,
                                       PF_ROW_MASK_EMPTY};
  EXPECT_EQ(rows.status, wanted);
  EXPECT_GE(rows.ids[0], 0);
  for (size_t r = 1; r < 5; ++r) EXPECT_EQ(rows.ids[r], -1);
}

TEST(CpuSample, DrawsTheSameTokensOnEveryIsaAndNumberOfThreads) {
  std::vector<float> logits = normal(40 * 3000, 10, 4.0f);
  std::vector<int32_t> first;
  for (const char* isa : {"generic", "avx2", "avxvnni", "avx512", "avx512vnni"}) {
    for (const int threads : {1, 3}) {
      Ops ops(isa, threads);
      if (!ops.usable()) continue;
      Rows rows(40, 3000);
      for (size_t r = 0; r < 40; ++r) {
        rows.temperature[r] = 1.5f;
        rows.seed[r] = r;
        rows.top_p[r] = r % 3 == 0 ? 0.9f : 1.0f;
        rows.top_k[r] = r % 4 == 0 ? 20 : 0;
      }
      sample(ops, logits, rows);
      if (first.empty()) first = rows.ids;
      EXPECT_EQ(rows.ids, first) << isa << ", " << threads << " threads";
    }
  }
}

}  // namespace
