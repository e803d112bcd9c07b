// Sums over ranks by the kernel of ours or by NCCL, which a library of the tests' own plays (fixtures/fake_nccl.cpp).
// Ranks share one emulated GPU and are called one after the other, so that the kernel of ours, which waits for the
// other ranks, is seen here with one rank only; with several it is all_reduce_test.cpp's.
#include "ops/gpu/communicator.h"

#include <cstdlib>

#include "../fixtures/failure.h"
#include "harness.h"

namespace pf {
namespace {

using gpu::AllReduceArgs;
using gpu::bf16;
using gpu::Communicator;
using gpu::f16;

class SimtCommunicator : public testing::Test {
 protected:
  void SetUp() override {
    if (kCheckBuild) GTEST_SKIP() << "the library's kernel is not compiled for checks";
    play("");
    library = std::make_unique<gpu::nccl::Library>(std::vector<std::string>{PF_FAKE_NCCL_PATH});
    library->file.find(calls, "fake_nccl_calls");
  }
  void TearDown() override { play(""); }
  static void play(const char* fault) { setenv("PF_FAKE_NCCL", fault, 1); }

  std::unique_ptr<Communicator> join(const gpu::RankSetup& setup, const gpu::nccl::UniqueId& id) {
    return std::make_unique<Communicator>(runtime, stream, setup, library.get(), id);
  }

  gpu::Runtime runtime{0};
  gpu::Stream stream = runtime.create_stream();
  std::unique_ptr<gpu::nccl::Library> library;
  int (*calls)() = nullptr;
};

// Memory of all ranks; inputs are set, outputs are zeros.
template <class T>
struct Buffers {
  Buffers(simt::Device& device, int ranks, size_t n) {
    args.n = static_cast<int64_t>(n);
    args.ranks = ranks;
    std::vector<float> sums(n);
    for (int r = 0; r < ranks; ++r) {
      const auto values = converted<T>(normal_values(n, static_cast<unsigned>(r)));
      for (size_t i = 0; i < n; ++i) sums[i] += gpu::to_float(values[i]);
      in.push_back(std::make_unique<Array<T>>(device, values, "in"));
      out.push_back(std::make_unique<Array<T>>(device, std::vector<T>(n), "out"));
      scratch.push_back(std::make_unique<Array<T>>(device, n, "scratch"));
      flags.push_back(std::make_unique<Array<uint32_t>>(device, std::vector<uint32_t>(gpu::kAllReduceFlags), "flags"));
      args.in[r] = in.back()->get();
      args.out[r] = out.back()->get();
      args.scratch[r] = scratch.back()->get();
      args.flags[r] = flags.back()->get();
    }
    const std::vector<float> rounded = floats(converted<T>(sums));
    wanted.assign(rounded.begin(), rounded.end());
  }
  std::string wrong() const {
    std::string text;
    for (const auto& of_rank : out) text += difference(floats(of_rank->values()), wanted, 0, 0);
    return text;
  }
  AllReduceArgs<T> args{};
  std::vector<std::unique_ptr<Array<T>>> in, out, scratch;
  std::vector<std::unique_ptr<Array<uint32_t>>> flags;
  std::vector<double> wanted;
};

template <class T>
void sum_over(const std::vector<std::unique_ptr<Communicator>>& ranks, Buffers<T>& buffers, gpu::Stream stream) {
  for (size_t r = 0; r < ranks.size(); ++r) {
    buffers.args.rank = static_cast<int>(r);
    ranks[r]->all_reduce(buffers.args, stream);
  }
}

TEST_F(SimtCommunicator, WithoutPeerAccessAllSumsAreTheLibrarys) {
  const auto id = library->unique_id();
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int r = 0; r < 3; ++r) ranks.push_back(join({.ranks = 3, .rank = r, .peer_access = false}, id));
  EXPECT_EQ(ranks[0]->own_bytes(), 0);
  const int before = calls();
  Buffers<float> floats_of(*stream, 3, 5);
  Buffers<bf16> bfloats_of(*stream, 3, 1000);
  Buffers<f16> halves_of(*stream, 3, 8);
  sum_over(ranks, floats_of, stream);
  sum_over(ranks, bfloats_of, stream);
  sum_over(ranks, halves_of, stream);
  EXPECT_EQ(floats_of.wrong() + bfloats_of.wrong() + halves_of.wrong(), "");
  EXPECT_EQ(calls(), before + 3);
}

TEST_F(SimtCommunicator, SmallSumsAreOursAndLargeOnesTheLibrarys) {
  const auto rank = join({.ranks = 1, .rank = 0, .peer_access = true}, library->unique_id());
  EXPECT_EQ(rank->own_bytes(), gpu::kOwnBytes);
  const int before = calls();
  Buffers<bf16> small(*stream, 1, 4096), odd(*stream, 1, 4), large(*stream, 1, gpu::kOwnBytes / 2 + 8);
  rank->all_reduce(small.args, stream);
  EXPECT_EQ(calls(), before);
  rank->all_reduce(odd.args, stream);
  EXPECT_EQ(calls(), before + 1) << "ours takes whole vectors only";
  rank->all_reduce(large.args, stream);
  EXPECT_EQ(calls(), before + 2);
  EXPECT_EQ(small.wrong() + odd.wrong() + large.wrong(), "");
}

TEST_F(SimtCommunicator, WhichOneIsFasterIsMeasured) {
  EXPECT_EQ(gpu::own_bytes_of({16, 32, 64}, {1, 2, 9}, {2, 2, 3}, 8), 32);
  EXPECT_EQ(gpu::own_bytes_of({16, 32, 64}, {3, 2, 1}, {2, 2, 3}, 8), 8) << "what follows the first loss is not ours";
  Buffers<float> buffers(*stream, 1, 8192);
  const auto measured = [&] {
    const auto rank = join({.ranks = 1, .rank = 0, .peer_access = true}, library->unique_id());
    rank->measure(buffers.args);
    return rank->own_bytes();
  };
  EXPECT_LT(measured(), 32768) << "one thread of the emulator is faster than many blocks that meet";
  play("slow");
  EXPECT_EQ(measured(), 32768);
}

TEST_F(SimtCommunicator, Gathers) {
  const auto id = library->unique_id();
  std::vector<std::unique_ptr<Array<int32_t>>> out;
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int32_t r = 0; r < 2; ++r) {
    ranks.push_back(join({.ranks = 2, .rank = r, .peer_access = true}, id));
    out.push_back(std::make_unique<Array<int32_t>>(*stream, std::vector<int32_t>(6), "out"));
  }
  const Array<int32_t> first(*stream, std::vector<int32_t>{1, 2, 3}, "in");
  const Array<int32_t> second(*stream, std::vector<int32_t>{4, 5, 6}, "in");
  ranks[0]->all_gather(first.get(), out[0]->get(), 12, stream);
  ranks[1]->all_gather(second.get(), out[1]->get(), 12, stream);
  const std::vector<int32_t> wanted = {1, 2, 3, 4, 5, 6};
  for (const auto& gathered : out) EXPECT_EQ(gathered->values(), wanted);
}

TEST_F(SimtCommunicator, FailuresAreTold) {
  EXPECT_EQ(library->version(), "2.27.3");
  const auto id = library->unique_id();
  const auto alone = [&](bool peers, const gpu::nccl::Library* with) {
    return Communicator(runtime, stream, {.ranks = 2, .rank = 0, .peer_access = peers}, with, id).own_bytes();
  };
  EXPECT_NE(failure_of([&] { alone(false, nullptr); }).find("need NCCL"), std::string::npos);
  EXPECT_GT(alone(true, nullptr), int64_t{1} << 40);
  EXPECT_NE(failure_of([&] { join({.ranks = 2, .rank = 2}, id); }).find("rank 2 of 2"), std::string::npos);

  const auto rank = join({.ranks = 1, .rank = 0}, library->unique_id());
  Buffers<float> buffers(*stream, 1, 64);
  play("fails");
  EXPECT_EQ(failure_of([&] { rank->all_reduce(buffers.args, stream); }),
            "ncclAllReduce: internal error, played by a test");
  play("old");
  EXPECT_NE(failure_of([&] { gpu::nccl::Library({PF_FAKE_NCCL_PATH}); }).find("is version 2.7.8, too old"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { gpu::nccl::Library({"libm.so.6"}); }).find("lacks ncclGetVersion"), std::string::npos);
}

}  // namespace
}  // namespace pf
