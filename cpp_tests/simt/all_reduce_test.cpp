// The sum over ranks whose memory is one device's here: their blocks run at the same time and meet by flags.
#include "harness.h"
#include "ops/comm/gpu/all_reduce_block.h"

namespace pf {
namespace {

using gpu::AllReduce;
using gpu::AllReduceArgs;
using gpu::bf16;
using gpu::f16;
using simt::Device;

template <class T>
struct Ranks {
  Ranks(Device& device, int ranks, size_t n, int rounds) {
    // Memory of ranks that do not take part is never looked at.
    args.n = static_cast<int64_t>(n);
    args.ranks = ranks;
    for (int r = 0; r < ranks; ++r) {
      in.push_back(std::make_unique<Array<T>>(device, n, "in"));
      scratch.push_back(std::make_unique<Array<T>>(device, n, "scratch"));
      out.push_back(std::make_unique<Array<T>>(device, n * static_cast<size_t>(rounds), "out"));
      flags.push_back(std::make_unique<Array<uint32_t>>(device, std::vector<uint32_t>(gpu::kAllReduceFlags), "flags"));
      args.in[r] = in.back()->get();
      args.scratch[r] = scratch.back()->get();
      args.out[r] = out.back()->get();
      args.flags[r] = flags.back()->get();
    }
  }
  AllReduceArgs<T> args{};
  std::vector<std::unique_ptr<Array<T>>> in, scratch, out;
  std::vector<std::unique_ptr<Array<uint32_t>>> flags;
};

// All ranks have the float sum in the order of the ranks, rounded once.
template <class T>
std::string run_all_reduce(Device& device, int ranks, size_t n, AllReduce kind) {
  device.options.concurrent_blocks = true;
  Ranks<T> all(device, ranks, n, 1);
  for (unsigned call = 0; call < (ranks == 2 ? 2 : 1); ++call) {
    std::vector<float> sums(n);
    for (int r = 0; r < ranks; ++r) {
      const auto values = converted<T>(normal_values(n, 10 * call + static_cast<unsigned>(r)));
      device.write(all.in[static_cast<size_t>(r)]->get(), values.data(), n * sizeof(T));
      for (size_t i = 0; i < n; ++i) sums[i] += gpu::to_float(values[i]);
    }
    gpu::all_reduce(all.args, kind, &device, ranks);
    const std::vector<float> wanted = floats(converted<T>(sums));
    for (const auto& out : all.out) {
      const std::vector<double> exact(wanted.begin(), wanted.end());
      const std::string wrong = difference(floats(out->values()), exact, 0, 0);
      if (!wrong.empty()) return "call " + std::to_string(call) + ": " + wrong;
    }
  }
  return "";
}

TEST(SimtAllReduce, EveryRankHasTheSameSum) {
  for (const AllReduce kind : {AllReduce::kOneShot, AllReduce::kTwoShot}) {
    expect_right([&](Device& d) { return run_all_reduce<float>(d, 2, 4 * 600, kind); });
    expect_right([&](Device& d) { return run_all_reduce<f16>(d, 3, 8 * 270, kind); });
    expect_right([&](Device& d) { return run_all_reduce<bf16>(d, 4, 8 * 110, kind); });
    expect_right([&](Device& d) { return run_all_reduce<bf16>(d, 8, 8 * 3, kind); });
    expect_right([&](Device& d) { return run_all_reduce<bf16>(d, 1, 8, kind); });
  }
  Device device;
  Ranks<bf16> odd(device, 2, 12, 1);
  EXPECT_THROW(gpu::all_reduce(odd.args, AllReduce::kOneShot, &device, 2), std::invalid_argument);
}

GPU_DEVICE float value_of(int round, int rank, int64_t i) {
  return static_cast<float>((7 * i + 3 * rank + 5 * round) % 11);
}

struct Inputs {
  bf16* of[gpu::kMaxRanks];
};

// Several sums one after the other without the end of a launch between them: each block writes the inputs that blocks
// of its index read, and overwrites them as soon as it is out.
GPU_KERNEL(gpu::kAllReduceThreads)
void repeated_kernel(AllReduceArgs<bf16> args, Inputs inputs, AllReduce kind, int rounds) {
  const int rank = static_cast<int>(gpu::block_y());
  const int64_t vectors = args.n / 8, parts = kind == AllReduce::kOneShot ? 1 : args.ranks;
  const int64_t part = (vectors + parts - 1) / parts;
  for (int round = 0; round < rounds; ++round) {
    for (int64_t i = gpu::block_x() * gpu::kAllReduceThreads + gpu::thread_x(); i < part;
         i += gpu::grid_x() * gpu::kAllReduceThreads) {
      for (int64_t p = 0; p < parts && p * part + i < vectors; ++p) {
        float v[8];
        for (int e = 0; e < 8; ++e) v[e] = value_of(round, rank, (p * part + i) * 8 + e);
        gpu::store_values(inputs.of[rank] + (p * part + i) * 8, v);
      }
    }
    gpu::block_sync();
    gpu::all_reduce_block(args, kind, rank);
    args.out[rank] += args.n;
  }
}

std::string run_repeated(Device& device, AllReduce kind) {
  constexpr int kRanks = 3, kRounds = 2;
  constexpr unsigned kBlocks = 2;
  const size_t n = kind == AllReduce::kOneShot ? 8 * 400 : 8 * 1000;
  device.options.concurrent_blocks = true;
  Ranks<bf16> all(device, kRanks, n, kRounds);
  Inputs inputs{};
  for (size_t r = 0; r < kRanks; ++r) inputs.of[r] = all.in[r]->get();
  GPU_LAUNCH(repeated_kernel, (gpu::Dim3{kBlocks, kRanks}), gpu::kAllReduceThreads, 0, &device, all.args, inputs, kind,
             kRounds);
  std::vector<double> wanted;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int r = 0; r < kRanks; ++r) sum += value_of(round, r, static_cast<int64_t>(i));
      wanted.push_back(sum);
    }
  }
  std::string wrong;
  for (const auto& out : all.out) wrong += difference(floats(out->values()), wanted, 0, 0);
  return wrong;
}

TEST(SimtAllReduce, WithoutAFlagOrABarrierItIsNoticed) {
  for (const AllReduce kind : {AllReduce::kOneShot, AllReduce::kTwoShot}) {
    const Case run = [&](Device& d) { return run_repeated(d, kind); };
    expect_right(run);
    expect_mutants_caught(
        run, {.block_syncs = 3, .plants = {"all_reduce: no acquire", "all_reduce: no release", "all_reduce: no wait"}});
  }
}

TEST(SimtAllReduce, WholeSectors) {
  for (const AllReduce kind : {AllReduce::kOneShot, AllReduce::kTwoShot}) {
    expect_full_accesses([&](Device& d) { return run_all_reduce<bf16>(d, 2, 8 * 512, kind); });
  }
}

}  // namespace
}  // namespace pf
