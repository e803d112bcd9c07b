#include "runtime/runner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>

#include "fixtures/one_sequence.h"
#include "fixtures/program_builder.h"
#include "runtime/backend_loader.h"
#include "runtime/errors.h"

namespace {

using pf::Device;
using pf::ramp;
using pf::Rows;
using pf::Runner;
using pf::Step;
using pf::View;

constexpr PfKvShape kKv = {1, 1, 16, 16, 6, PF_F32};
constexpr pf::RunnerOptions kOptions = {{32, 4, 4}, true};

std::shared_ptr<Device> cpu(int threads = 2) { return std::make_shared<Device>(PF_CPU_BACKEND_PATH, threads, "auto"); }

TEST(BackendLoader, RefusesWhatIsNoBackend) {
  const auto message_of = [](const std::string& path) -> std::string {
    try {
      pf::load_backend(path);
    } catch (const pf::BackendError& error) {
      return error.what();
    }
    return "loaded";
  };
  EXPECT_EQ(message_of(PF_CPU_BACKEND_PATH), "loaded");
  EXPECT_NE(message_of("/nowhere/lib.so").find("cannot load backend /nowhere/lib.so"), std::string::npos);
  EXPECT_NE(message_of("libm.so.6").find("is not a pageform backend"), std::string::npos);
  const std::string old = message_of(PF_OLD_BACKEND_PATH);
  const std::string found = " has version " + std::to_string(PF_BACKEND_ABI - 1) + " of the backend interface";
  EXPECT_NE(old.find(PF_OLD_BACKEND_PATH + found), std::string::npos) << old;
  EXPECT_NE(old.find("needs version " + std::to_string(PF_BACKEND_ABI) + ". Install both"), std::string::npos) << old;
}

TEST(Runner, NamesTheOpThatABackendLacks) {
  const auto device = std::make_shared<Device>(PF_POOR_BACKEND_PATH, 1, "auto");
  ProgramBuilder b;
  b.program.outputs["sum"] = b.add(b.input("x", 16), b.input("y", 16));
  try {
    Runner(device, b.program, {}, {}, nullptr, kOptions);
    FAIL() << "accepted";
  } catch (const pf::BackendError& error) {
    EXPECT_STREQ(error.what(), "the poor backend has no op \"add\", which the program needs");
  }
}

TEST(Runner, ReportsWhatTheBackendSays) {
  const auto device = std::make_shared<Device>(PF_POOR_BACKEND_PATH, 1, "auto");
  try {
    pf::KvCache(device, kKv);
    FAIL() << "created";
  } catch (const pf::BackendError& error) {
    EXPECT_STREQ(error.what(), "poor backend, creating a KV cache: this backend can do nothing");
  }
}

// Stacked residuals: enough reuse of the arena that a wrong lifetime would show in the sums.
pf::Program residual_stack() {
  ProgramBuilder b;
  View hidden = b.input("x", 48), branch = b.input("y", 48);
  for (int layer = 0; layer < 4; ++layer) {
    hidden = b.add(hidden, branch);
    branch = b.norm(hidden);
  }
  b.program.outputs["hidden"] = hidden;
  b.program.outputs["branch"] = branch;
  return b.program;
}

TEST(Runner, TheLoweredProgramComputesTheSameBits) {
  const auto device = cpu();
  const std::vector<std::vector<float>> vectors = {ramp(48, 0.1f)};
  Runner plain(device, residual_stack(), {}, vectors, nullptr, {{16, 4, 4}, false});
  Runner lowered(device, residual_stack(), {}, vectors, nullptr, {{16, 4, 4}, true});
  ASSERT_EQ(plain.program().ops.size(), 8u);
  ASSERT_EQ(lowered.program().ops.size(), 4u);
  for (const int32_t count : {1, 16, 5, 5}) {  // growing, shrinking, repeating
    Step step(count);
    for (Runner* runner : {&plain, &lowered}) {
      runner->feed("x", {count, 48, ramp(count * 48, 0.7f)});
      runner->feed("y", {count, 48, ramp(count * 48, -0.3f)});
      runner->run(step.step);
    }
    for (const char* name : {"hidden", "branch"}) {
      const pf::Matrix expected = plain.fetch(name);
      EXPECT_EQ(expected.rows, count);
      EXPECT_EQ(expected.cols, 48);
      EXPECT_EQ(lowered.fetch(name).values, expected.values);
    }
  }
}

TEST(Runner, ThreadsDoNotChangeTheResult) {
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 4}) {
    Runner runner(cpu(threads), residual_stack(), {}, {ramp(48, 0.1f)}, nullptr, kOptions);
    runner.feed("x", {16, 48, ramp(16 * 48, 0.7f)});
    runner.feed("y", {16, 48, ramp(16 * 48, -0.3f)});
    Step step(16);
    runner.run(step.step);
    results.push_back(runner.fetch("branch").values);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

// A cache of one layer, written from an input, and what attention reads back with all scores equal (q = 0): the mean of
// the values of all positions.
struct CachedMean {
  explicit CachedMean(std::shared_ptr<Device> device) : kv(std::make_shared<pf::KvCache>(device, kKv)) {
    ProgramBuilder b;
    const View q = b.input("q", 16), v = b.input("v", 16);
    b.op("cache_write", {q, v}, {}, -1, -1, {0, 1, 16});
    b.program.outputs["mean"] = b.op("attention", {q}, {b.tokens(16)}, -1, -1, {0, 1, 1, 16, 0}, {1.0, 0.0});
    runner = std::make_unique<Runner>(device, b.program, std::vector<std::shared_ptr<pf::Weight>>{},
                                      std::vector<std::vector<float>>{}, kv, kOptions);
  }
  // Mean seen by the last token of the step, whose values are all `value`.
  float run(Step& step, float value) {
    const int64_t count = step.step.num_tokens;
    const auto size = static_cast<size_t>(count) * 16;
    runner->feed("q", {count, 16, std::vector<float>(size, 0.0f)});
    runner->feed("v", {count, 16, std::vector<float>(size, value)});
    runner->run(step.step);
    const pf::Matrix mean = runner->fetch("mean");
    return mean.values[size - 1];
  }
  std::shared_ptr<pf::KvCache> kv;
  std::unique_ptr<Runner> runner;
};

TEST(Runner, CachesOutsideTheLimitsOfAttentionAreRefused) {
  for (const PfKvShape& shape : {PfKvShape{1, 1, 16, 8, 6, PF_F32}, PfKvShape{1, 1, 16, 16, 6, PF_BF16}}) {
    EXPECT_ANY_THROW(pf::KvCache(cpu(), shape));
  }
}

TEST(Runner, StepsShareTheCache) {
  CachedMean program(cpu());
  Step prompt(24), next(8, 24);
  EXPECT_FLOAT_EQ(program.run(prompt, 1.0f), 1.0f);
  EXPECT_FLOAT_EQ(program.run(next, 5.0f), 2.0f);  // (24 * 1 + 8 * 5) / 32
}

TEST(Runner, CopiesBlocksInOrderBeforeTheStep) {
  CachedMean program(cpu());
  Step prompt(16);
  program.run(prompt, 1.0f);
  Step forked(1, 16);
  const int32_t source[] = {0, 3}, target[] = {3, 5};
  forked.step.num_copies = 2;
  forked.step.copy_src = source;
  forked.step.copy_dst = target;
  forked.table[0] = 5;  // a copy of the copy of block 0
  EXPECT_FLOAT_EQ(program.run(forked, 18.0f), 2.0f);
}

TEST(Runner, ABadStepChangesNothing) {
  CachedMean program(cpu());
  Step prompt(16), bad(1, 16), good(1, 16);
  program.run(prompt, 1.0f);
  bad.table[1] = 6;
  EXPECT_THROW(program.run(bad, 100.0f), std::invalid_argument);
  EXPECT_FLOAT_EQ(program.run(good, 1.0f), 1.0f);
}

// --- sampling --------------------------------------------------------------------------------------------------------

// Greedy sampling of rows fed as logits.
struct GreedyStep : Step {
  GreedyStep() : Step(1, 0, 1) {
    PfSampling& s = step.sampling;
    s.temperature = s.min_p = s.presence = s.frequency = &zero;
    s.top_p = s.repetition = &one;
    s.top_k = &zero_int;
    s.seed = &seed;
    s.stream = s.position = &stream;
    s.num_logprobs = s.target = &none;
    s.defer = &defer;
    s.vocab = 40;
    step.sampled = {&id, &logprob, &rank, nullptr, nullptr, &status, nullptr, nullptr, nullptr};
  }
  float zero = 0, one = 1, logprob = 0;
  int32_t zero_int = 0, none = -1, id = -7, rank = 0;
  uint64_t seed = 0;
  uint32_t stream = 0;
  uint8_t defer = 0, status = 9;
};

std::unique_ptr<Runner> sampler(std::shared_ptr<Device> device) {
  ProgramBuilder b;
  const View logits = b.buffer(Rows::logits, 40);
  b.program.inputs["logits"] = logits;
  b.op("sample", {logits}, {});
  auto runner = std::make_unique<Runner>(std::move(device), b.program, std::vector<std::shared_ptr<pf::Weight>>{},
                                         std::vector<std::vector<float>>{}, nullptr, kOptions);
  std::vector<float> values(40, 0.0f);
  values[33] = 1.0f;
  runner->feed("logits", {1, 40, values});
  return runner;
}

TEST(Runner, WaitsOnceForMasksAndFailsTheStepWhenTheyFail) {
  struct Masks {
    std::atomic<int> calls{0};
    int result = 0;
  } masks;
  const auto runner = sampler(cpu(3));
  GreedyStep step;
  step.step.wait_ctx = &masks;
  step.step.wait_masks = [](void* ctx) {
    Masks& m = *static_cast<Masks*>(ctx);
    ++m.calls;
    return m.result;
  };
  runner->run(step.step);
  EXPECT_EQ(masks.calls, 1);
  EXPECT_EQ(step.id, 33);

  masks.result = 1;
  EXPECT_THROW(runner->run(step.step), pf::BackendError);
  EXPECT_EQ(masks.calls, 2);

  masks.result = 0;
  runner->run(step.step);  // the pool is whole again
  EXPECT_EQ(step.status, PF_ROW_OK);
}

TEST(Runner, ChecksSamplingAgainstTheLogits) {
  const auto runner = sampler(cpu());
  GreedyStep step;
  step.step.sampling.vocab = 41;
  EXPECT_THROW(runner->run(step.step), std::invalid_argument);
  step.step.sampling.vocab = 40;
  step.zero = -1.0f;  // the temperature
  EXPECT_THROW(runner->run(step.step), std::invalid_argument);
  EXPECT_EQ(step.id, -7);
}

}  // namespace
