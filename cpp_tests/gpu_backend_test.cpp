// The GPU backend as a library, on the emulated device: loaded, bound and run as any other backend.
#include <gtest/gtest.h>

#include <numeric>

#include "fixtures/failure.h"
#include "fixtures/one_sequence.h"
#include "fixtures/program_builder.h"
#include "runtime/errors.h"
#include "runtime/runner.h"

namespace {

using pf::Device;
using pf::failure_of;
using pf::ramp;
using pf::Rows;
using pf::Runner;
using pf::Step;
using pf::View;

constexpr pf::RunnerOptions kOptions = {{40, 4, 4}, true};

std::shared_ptr<Device> simt() { return std::make_shared<Device>(PF_SIMT_BACKEND_PATH, 1, "auto"); }
std::shared_ptr<Device> cpu() { return std::make_shared<Device>(PF_CPU_BACKEND_PATH, 1, "auto"); }

TEST(GpuBackend, SaysWhatItIs) {
  const auto device = simt();
  EXPECT_STREQ(device->backend().name, "simt");
  EXPECT_NE(std::string(device->backend().device_describe(device->handle())).find("emulated"), std::string::npos);
  EXPECT_EQ(failure_of([] { Device(PF_SIMT_BACKEND_PATH, 1, "auto", {}, 1); }),
            "simt backend, creating a device: the emulator has one device, not number 1");
  EXPECT_NE(failure_of([] { Device(PF_SIMT_BACKEND_PATH, 1, "auto", {0}); }).find("pinned to cores"),
            std::string::npos);
}

TEST(GpuBackend, RefusesAProgramWithAnOpThatItLacks) {
  const auto device = simt();
  ProgramBuilder b;
  const View logits = b.buffer(Rows::logits, 8);
  b.program.inputs["x"] = b.buffer(Rows::logits, 8);
  b.op("lm_head", {b.program.inputs["x"]}, {logits}, 0);
  b.program.outputs["y"] = logits;
  const std::vector<float> matrix = ramp(64, 1.0f);
  const std::vector<PfWeightPart> parts = {{matrix.data(), 256, 8, 8, PF_FMT_F32}};
  const auto weight = std::make_shared<pf::Weight>(device, parts);
  EXPECT_EQ(failure_of([&] { Runner(device, b.program, {weight}, {}, nullptr, kOptions); }),
            "the simt backend has no op \"lm_head\", which the program needs");
}

TEST(GpuBackend, RefusesAHandleOfNoOp) {
  const auto device = simt();
  PfCall call{};
  call.op = 1000;
  const PfStep step{};
  EXPECT_NE(device->backend().execute(device->handle(), &call, 1, &step), 0);
  EXPECT_NE(std::string(device->backend().last_error()).find("refers to op 1000"), std::string::npos);
}

TEST(GpuBackend, RefusesCachesAndWeightsWithoutKernels) {
  const auto device = simt();
  EXPECT_NE(failure_of([&] { pf::KvCache(device, {1, 1, 48, 16, 6, PF_F32}); }).find("the model's have 48"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { pf::KvCache(device, {1, 1, 64, 8, 6, PF_F32}); }).find("block_size"), std::string::npos);
  const std::vector<uint8_t> bytes(210);
  const std::vector<PfWeightPart> parts = {{bytes.data(), bytes.size(), 1, 256, PF_FMT_Q6_K}};
  EXPECT_NE(failure_of([&] { pf::Weight(device, parts); }).find("q8_0"), std::string::npos);
}

TEST(GpuBackend, WeightsOfEveryFloatFormatComeBackExactly) {
  const auto device = simt();
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x0001, 0x7bff}, bfloats = {0x3f80, 0xc000, 0x0001, 0x7f7f};
  const std::vector<float> floats = {1.5f, -2.25f, 1e-40f, 3e38f};
  const std::vector<PfWeightPart> parts = {{halves.data(), 8, 2, 2, PF_FMT_F16},
                                           {bfloats.data(), 8, 2, 2, PF_FMT_BF16},
                                           {floats.data(), 16, 2, 2, PF_FMT_F32}};
  const pf::Weight weight(device, parts), wanted(cpu(), parts);
  std::vector<float> values(12), expected(12);
  weight.dequantize(0, 6, values.data());
  wanted.dequantize(0, 6, expected.data());
  EXPECT_EQ(values, expected);
  weight.dequantize(5, 1, values.data());
  EXPECT_EQ(values[1], 3e38f);
}

TEST(GpuBackend, ComputesWhatTheCpuComputes) {
  ProgramBuilder b;
  View hidden = b.input("x", 48), branch = b.input("y", 48);
  for (int layer = 0; layer < 4; ++layer) {
    hidden = b.add(hidden, branch);
    branch = b.norm(hidden);
  }
  b.program.outputs["hidden"] = hidden;
  b.program.outputs["branch"] = branch;
  const std::vector<std::vector<float>> vectors = {ramp(48, 0.1f)};
  Runner on_cpu(cpu(), b.program, {}, vectors, nullptr, kOptions);
  Runner on_gpu(simt(), b.program, {}, vectors, nullptr, kOptions);
  EXPECT_EQ(on_gpu.program().ops.size(), 4u) << "lowered like the CPU's";
  for (const int32_t count : {1, 16, 5, 5}) {
    Step step(count, 0, 0);
    for (Runner* runner : {&on_cpu, &on_gpu}) {
      runner->feed("x", {count, 48, ramp(count * 48, 0.7f)});
      runner->feed("y", {count, 48, ramp(count * 48, -0.3f)});
      runner->run(step.step);
    }
    const pf::Matrix wanted = on_cpu.fetch("branch"), got = on_gpu.fetch("branch");
    ASSERT_EQ(got.values.size(), wanted.values.size());
    for (size_t i = 0; i < got.values.size(); ++i) EXPECT_NEAR(got.values[i], wanted.values[i], 2e-5f) << i;
  }
}

TEST(GpuBackend, CopiesBlocksInOrderBeforeTheStep) {
  ProgramBuilder b;
  const View q = b.input("q", 64), v = b.input("v", 64);
  b.op("cache_write", {q, v}, {}, -1, -1, {0, 1, 64});
  b.program.outputs["mean"] = b.op("attention", {q}, {b.tokens(64)}, -1, -1, {0, 1, 1, 64, 0}, {1.0, 0.0});
  for (const int32_t dtype : {PF_F32, PF_F16}) {
    const auto device = simt();
    const auto kv = std::make_shared<pf::KvCache>(device, PfKvShape{1, 1, 64, 16, 6, dtype});
    Runner runner(device, b.program, {}, {}, kv, kOptions);
    const auto run = [&](Step& step, float value) {
      const auto size = static_cast<size_t>(step.step.num_tokens) * 64;
      runner.feed("q", {step.step.num_tokens, 64, std::vector<float>(size, 0.0f)});
      runner.feed("v", {step.step.num_tokens, 64, std::vector<float>(size, value)});
      runner.run(step.step);
      return runner.fetch("mean").values[size - 1];
    };
    Step prompt(16, 0, 0), forked(1, 16, 0);
    EXPECT_FLOAT_EQ(run(prompt, 1.0f), 1.0f);
    const int32_t source[] = {0, 3}, target[] = {3, 5};
    forked.step.num_copies = 2;
    forked.step.copy_src = source;
    forked.step.copy_dst = target;
    forked.table[0] = 5;  // a copy of the copy of block 0
    EXPECT_FLOAT_EQ(run(forked, 18.0f), 2.0f);
  }
}

// Two 16-bit types: what is fed is rounded, sums are those of the rounded numbers, and come back exactly.
TEST(GpuBackend, ActivationsOf16Bits) {
  ProgramBuilder b;
  const View x = b.input("x", 48), y = b.input("y", 48);
  b.program.outputs["sum"] = b.add(x, y);
  for (pf::Buffer& buffer : b.program.buffers) buffer.dtype = PF_BF16;
  const auto device = std::make_shared<Device>(PF_SIMT_BACKEND_PATH, 1, "auto", std::vector<int>{}, 0, PF_BF16);
  Runner runner(device, b.program, {}, {}, nullptr, kOptions);
  EXPECT_EQ(runner.arena().buffers[0].stride, 64) << "a whole cache line of two-byte elements";
  Step step(3, 0, 0);
  runner.feed("x", {3, 48, std::vector<float>(144, 1.0f + 1.0f / 256)});  // halfway between two: the even one is 1
  runner.feed("y", {3, 48, std::vector<float>(144, 256.0f)});
  runner.run(step.step);
  for (const float value : runner.fetch("sum").values) EXPECT_EQ(value, 256.0f);  // 257 lies halfway, too

  EXPECT_NE(failure_of([&] { Runner(simt(), b.program, {}, {}, nullptr, kOptions); }).find("another type"),
            std::string::npos);
  b.program.buffers[0].dtype = PF_F32;
  EXPECT_NE(failure_of([&] { Runner(device, b.program, {}, {}, nullptr, kOptions); }).find("different types"),
            std::string::npos);
  EXPECT_NE(failure_of([] {
              Device(PF_CPU_BACKEND_PATH, 1, "auto", {}, 0, PF_BF16);
            }).find("activations on a CPU are float32"),
            std::string::npos);
}

TEST(GpuBackend, CachesForWhichThereAreKernels) {
  for (const int32_t activations : {PF_F32, PF_F16, PF_BF16}) {
    const auto device = std::make_shared<Device>(PF_SIMT_BACKEND_PATH, 1, "auto", std::vector<int>{}, 0,
                                                 static_cast<PfDType>(activations));
    for (const int32_t dtype : {PF_F32, PF_F16, PF_BF16, PF_I16, PF_I8, PF_E4M3}) {
      const bool has = activations == PF_F32   ? dtype == PF_F32 || dtype == PF_F16 || dtype == PF_I8
                       : activations == PF_F16 ? dtype == PF_F16
                                               : dtype == PF_BF16 || dtype == PF_I8 || dtype == PF_E4M3;
      const std::string failure = failure_of([&] { pf::KvCache(device, {1, 1, 64, 16, 6, dtype}); });
      if (has) {
        EXPECT_EQ(failure, "no failure");
      } else {
        EXPECT_NE(failure.find("beside activations"), std::string::npos) << activations << ' ' << dtype;
      }
    }
  }
}

TEST(GpuBackend, TellsTheDevicesMemory) {
  const auto memory = simt()->memory();
  ASSERT_TRUE(memory.has_value());
  EXPECT_GT(memory->free, 0u);
  EXPECT_LE(memory->free, memory->total);
  EXPECT_FALSE(cpu()->memory().has_value());
}

TEST(GpuBackend, MasksThatFailFailTheStepAndNoOther) {
  ProgramBuilder b;
  const View logits = b.buffer(Rows::logits, 40);
  b.program.inputs["logits"] = logits;
  b.op("sample", {logits}, {});
  Runner runner(simt(), b.program, {}, {}, nullptr, kOptions);
  std::vector<float> values(40, 0.0f);
  values[33] = 1.0f;
  runner.feed("logits", {1, 40, values});
  Step step(1, 0, 1);
  float zero = 0, one = 1, logprob = 0;
  int32_t zero_int = 0, none = -1, id = -7, rank = 0;
  uint64_t seed = 0;
  uint32_t stream = 0;
  uint8_t defer = 0, status = 9;
  PfSampling& s = step.step.sampling;
  s.temperature = s.min_p = s.presence = s.frequency = &zero;
  s.top_p = s.repetition = &one;
  s.top_k = &zero_int;
  s.seed = &seed;
  s.stream = s.position = &stream;
  s.num_logprobs = s.target = &none;
  s.defer = &defer;
  s.vocab = 40;
  step.step.sampled = {&id, &logprob, &rank, nullptr, nullptr, &status, nullptr, nullptr, nullptr};
  int result = 1;
  step.step.wait_ctx = &result;
  step.step.wait_masks = [](void* ctx) { return *static_cast<int*>(ctx); };
  EXPECT_EQ(failure_of([&] { runner.run(step.step); }), "simt backend, running a step: the masks were not filled");
  EXPECT_EQ(id, -7);
  result = 0;
  runner.run(step.step);
  EXPECT_EQ(id, 33);
  EXPECT_EQ(status, PF_ROW_OK);
}

}  // namespace
