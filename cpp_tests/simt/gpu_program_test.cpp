// Steps of a program on the emulated device: what is captured, what a filled-up step leaves alone, and that neither
// changes a result.
#include "ops/gpu/gpu_program.h"

#include <numeric>

#include "harness.h"

namespace pf {
namespace {

using gpu::GpuProgram;

TEST(SimtGpuProgram, BucketsAreFewAndNeverAboveTheLargestStep) {
  const std::vector<std::pair<int, int>> wanted = {{1, 1}, {2, 2},  {3, 4},   {4, 4},   {5, 8},
                                                   {8, 8}, {9, 16}, {16, 16}, {17, 24}, {33, 40}};
  for (const auto& [seqs, bucket] : wanted) EXPECT_EQ(gpu::bucket_of(seqs, 64), bucket) << seqs;
  EXPECT_EQ(gpu::bucket_of(5, 6), 6);
  EXPECT_EQ(gpu::bucket_of(6, 6), 6);
  EXPECT_EQ(gpu::length_bucket_of(1), 512);
  EXPECT_EQ(gpu::length_bucket_of(512), 512);
  EXPECT_EQ(gpu::length_bucket_of(513), 1024);
  EXPECT_EQ(gpu::length_bucket_of(1025), 2048);
}

constexpr int kDim = 64, kBlockSize = 16, kMaxSeqs = 6, kMaxTokens = 40, kBlocks = 216;

// One layer whose values are written from a buffer and read back by attention with equal scores: the mean of what a
// sequence has written so far.
struct Layer {
  Layer() : stream(runtime.create_stream()), memory(runtime, 0), scratch(memory) {
    const PfKvShape shape = {1, 1, kDim, kBlockSize, kBlocks, PF_F32};
    kv = {shape, nullptr, size_t{kBlocks} * kBlockSize * kDim * sizeof(float)};
    kv.memory = static_cast<char*>(memory.allocate(2 * kv.layer_bytes, "KV cache"));
    for (float** buffer : {&q, &v, &out}) {
      *buffer = static_cast<float*>(memory.allocate(kMaxTokens * kDim * sizeof(float), "buffer"));
    }
    runtime.fill(q, 0, kMaxTokens * kDim * sizeof(float), stream);
    runtime.fill(v, 0, kMaxTokens * kDim * sizeof(float), stream);
    program = std::make_unique<GpuProgram>(runtime, memory, PF_F32, PfProgram{1, kMaxTokens, kMaxSeqs, kMaxTokens});
  }

  // Each sequence s computes new_tokens[s] tokens whose values are all values[s]; the mean that the last one sees.
  std::vector<float> run(const std::vector<int>& new_tokens, const std::vector<float>& values) {
    std::vector<int32_t> ids, positions, slots, starts = {0}, lens, rows;
    std::vector<float> written;
    const auto seqs = new_tokens.size();
    std::vector<int32_t> tables(seqs * kTableWidth, -1);
    lengths.resize(std::max(lengths.size(), seqs), 0);
    for (size_t s = 0; s < seqs; ++s) {
      const auto first = static_cast<int32_t>(s) * kTableWidth;
      std::iota(tables.begin() + first, tables.begin() + first + kTableWidth, first);
      for (int i = 0; i < new_tokens[s]; ++i) {
        ids.push_back(0);
        positions.push_back(lengths[s]);
        slots.push_back(first * kBlockSize + lengths[s]++);
        written.insert(written.end(), kDim, values[s]);
      }
      starts.push_back(static_cast<int32_t>(ids.size()));
      lens.push_back(lengths[s]);
      rows.push_back(starts.back() - 1);
    }
    runtime.copy_in(v, written.data(), written.size() * sizeof(float), stream);

    PfStep step{};
    step.num_tokens = static_cast<int32_t>(ids.size());
    step.num_seqs = static_cast<int32_t>(seqs);
    step.num_rows = step.num_seqs;
    step.token_ids = ids.data();
    step.positions = positions.data();
    step.slots = slots.data();
    step.query_start = starts.data();
    step.seq_lens = lens.data();
    step.block_tables = tables.data();
    step.max_blocks = kTableWidth;
    step.logits_rows = rows.data();
    step.kv = reinterpret_cast<PfKvCache*>(&kv);
    const auto tensor = [&](float* data) { return PfTensor{data, step.num_tokens, kDim, kDim, PF_F32}; };
    PfCall write{}, attend{};
    write.op = gpu::gpu_op_handle("cache_write");
    write.num_inputs = 2;
    write.in[0] = tensor(q);  // keys are as equal as queries are
    write.in[1] = tensor(v);
    const int64_t write_ints[] = {0, 1, kDim}, attend_ints[] = {0, 1, 1, kDim, 0};
    std::ranges::copy(write_ints, write.ints);
    attend.op = gpu::gpu_op_handle("attention");
    attend.num_inputs = attend.num_outputs = 1;
    attend.in[0] = tensor(q);
    attend.out[0] = tensor(out);
    std::ranges::copy(attend_ints, attend.ints);
    attend.floats[0] = 1.0;
    const PfCall calls[] = {write, attend};
    program->launch(calls, 2, step, scratch, stream);

    std::vector<float> means;
    for (const int32_t row : rows) {
      std::vector<float> mean(kDim);
      runtime.copy_out(mean.data(), out + row * kDim, kDim * sizeof(float), stream);
      EXPECT_EQ(std::ranges::count(mean, mean[0]), kDim);
      means.push_back(mean[0]);
    }
    return means;
  }

  // As if sequence 0 had computed so many tokens, all of one value.
  void pretend(int tokens, float value) {
    const std::vector<float> values(static_cast<size_t>(tokens) * kDim, value);
    runtime.fill(kv.memory, 0, values.size() * sizeof(float), stream);
    runtime.copy_in(kv.memory + kv.layer_bytes, values.data(), values.size() * sizeof(float), stream);
    lengths = {tokens};
  }

  static constexpr int kTableWidth = kBlocks / kMaxSeqs;
  gpu::Runtime runtime{0};
  gpu::Stream stream;
  gpu::MemoryPool memory;
  gpu::Scratch scratch;
  gpu::GpuKvCache kv{};
  float *q = nullptr, *v = nullptr, *out = nullptr;
  std::unique_ptr<GpuProgram> program;
  std::vector<int32_t> lengths;
};

TEST(SimtGpuProgram, DecodingIsCapturedOnceABucket) {
  Layer layer;
  const std::vector<float> once = layer.run({3, 1, 5}, {2, 4, 6});
  EXPECT_EQ(once, (std::vector<float>{2, 4, 6}));
  EXPECT_EQ(layer.program->stats().plain_steps, 1);
  EXPECT_EQ(layer.run({1, 1, 1}, {6, 8, 0}), (std::vector<float>{3, 6, 5}));  // three, filled up to four
  EXPECT_EQ(layer.program->stats().graphs, 1);
  EXPECT_EQ(layer.run({1, 1, 1, 1}, {8, 0, 12, 7}), (std::vector<float>{4, 4, 6, 7}));
  EXPECT_EQ(layer.run({1, 1, 1}, {4, 12, 6}), (std::vector<float>{4, 6, 6}));
  EXPECT_EQ(layer.program->stats().graphs, 1) << "all three are of the bucket of four";
  EXPECT_EQ(layer.run({1}, {4}), (std::vector<float>{4}));
  EXPECT_EQ(layer.run({1, 1, 1, 1, 1, 1}, {4, 6, 6, 7, 1, 2}), (std::vector<float>{4, 6, 6, 7, 1, 2}));
  EXPECT_EQ(layer.program->stats().graphs, 3);
  EXPECT_EQ(layer.program->stats().graph_launches, 5);
  EXPECT_EQ(layer.program->stats().plain_steps, 1);
}

TEST(SimtGpuProgram, LongSequencesAndMovedScratchAreCapturedAnew) {
  Layer layer;
  layer.pretend(520, 1.0f);
  EXPECT_EQ(layer.run({1}, {1}), (std::vector<float>{1}));
  EXPECT_EQ(layer.program->stats().graphs, 1);
  layer.scratch.reserve(1 << 16);
  EXPECT_EQ(layer.run({1}, {1}), (std::vector<float>{1}));
  EXPECT_EQ(layer.program->stats().graphs, 2) << "the graph held the old address";
}

TEST(SimtGpuProgram, EveryOpHasItsHandle) {
  for (int32_t op = 0; op < gpu::num_gpu_ops(); ++op) EXPECT_EQ(gpu::gpu_op_handle(gpu::gpu_op(op).name), op);
  EXPECT_EQ(gpu::gpu_op_handle("lm_head"), -1);
  EXPECT_EQ(gpu::gpu_op_handle(""), -1);
}

}  // namespace
}  // namespace pf
