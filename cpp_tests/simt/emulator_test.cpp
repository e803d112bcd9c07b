// The emulator's own tests: that kernels compute what a GPU computes, and that each kind of mistake is found and named.
#include "harness.h"

namespace pf {
namespace {

using gpu::atomic_add;
using gpu::ballot;
using gpu::block_sync;
using gpu::block_x;
using gpu::Dim3;
using gpu::fence;
using gpu::grid_x;
using gpu::kWarp;
using gpu::lane_id;
using gpu::load_acquire;
using gpu::load_vec;
using gpu::shuffle;
using gpu::shuffle_down;
using gpu::shuffle_xor;
using gpu::spin;
using gpu::store_release;
using gpu::thread_x;
using gpu::Vec16;
using gpu::warp_id;
using gpu::warp_sync;
using simt::Device;
using simt::Error;
using simt::Fault;

// Runs what must fail and gives back what was said.
template <class F>
Error expect_error(Fault fault, F run) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_TRUE(error.has(fault)) << "no " << simt::name_of(fault) << " but " << error.what();
    return error;
  }
  ADD_FAILURE() << "nothing found, not even " << simt::name_of(fault);
  return Error("", {});
}

void expect_says(const Error& error, const std::string& words) {
  EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << words << " is not in: " << error.what();
}

std::string at_line(int line) { return "emulator_test.cpp:" + std::to_string(line); }

// --- what kernels compute --------------------------------------------------------------------------------------------

GPU_KERNEL(128) void reverse_block(const float* x, float* y) {
  GPU_SHARED(float, tile, [128]);
  const unsigned i = block_x() * 128 + thread_x();
  tile[thread_x()] = x[i];
  block_sync();
  y[i] = tile[127 - thread_x()];
}

TEST(Simt, BlocksThreadsAndSharedMemory) {
  expect_right([](Device& device) {
    const std::vector<float> values = normal_values(5 * 128, 1);
    const Array<float> x(device, values, "x"), y(device, values.size(), "y");
    GPU_LAUNCH(reverse_block, Dim3{5}, 128, 0, &device, x.get(), y.get());
    std::vector<double> wanted;
    for (size_t i = 0; i < values.size(); ++i) wanted.push_back(values[i / 128 * 128 + 127 - i % 128]);
    return difference(y.values(), wanted, 0, 0);
  });
}

GPU_KERNEL(128) void warp_words(int* out, uint64_t* votes) {
  const int lane = lane_id(), value = static_cast<int>(thread_x()) * 10;
  int* mine = out + thread_x() * 4;
  mine[0] = shuffle(value, 3);
  mine[1] = shuffle_xor(value, 5);
  mine[2] = shuffle_down(value, 2);
  mine[3] = static_cast<int>(gpu::warp_sum(static_cast<float>(lane)));
  votes[thread_x()] = ballot(lane % 3 == 0);
}

TEST(Simt, ShufflesAndVotes) {
  expect_right([](Device& device) -> std::string {
    const Array<int> out(device, 128 * 4, "out");
    const Array<uint64_t> votes(device, 128, "votes");
    GPU_LAUNCH(warp_words, Dim3{1}, 128, 0, &device, out.get(), votes.get());
    for (int t = 0; t < 128; ++t) {
      const int lane = t % kWarp, base = t - lane;
      const int wanted[] = {10 * (base + 3), 10 * (base + (lane ^ 5)), 10 * (lane + 2 < kWarp ? t + 2 : t),
                            kWarp * (kWarp - 1) / 2};
      for (int i = 0; i < 4; ++i) {
        if (out.values()[static_cast<size_t>(4 * t + i)] != wanted[i]) return "value " + std::to_string(i);
      }
      for (int i = 0; i < kWarp; ++i) {
        if ((votes.values()[static_cast<size_t>(t)] >> i & 1) != (i % 3 == 0 ? 1u : 0u)) return "vote";
      }
    }
    return "";
  });
}

GPU_KERNEL(100) void partial_warp(float* out) {
  if (thread_x() >= 90) return;  // warp operations go on without those who left
  out[thread_x()] = gpu::warp_max(static_cast<float>(thread_x() % 7));
}

TEST(Simt, WarpOperationsOfPartialWarpsReadOnlyLanesThatAreThere) {
  Device device;
  const Array<float> out(device, 100, "out");
  const Error error =
      expect_error(Fault::kDivergence, [&] { GPU_LAUNCH(partial_warp, Dim3{1}, 100, 0, &device, out.get()); });
  expect_says(error, "which has ended");
}

// A sum over the grid whose last block adds up the others' parts.
GPU_KERNEL(64) void grid_sum(const int* x, int n, int* parts, unsigned* count, int* out) {
  GPU_SHARED(int, sums, [64]);
  GPU_SHARED(bool, last, [1]);
  const unsigned t = thread_x();
  int sum = 0;
  for (int i = static_cast<int>(block_x() * 64 + t); i < n; i += static_cast<int>(grid_x()) * 64) sum += x[i];
  sums[t] = sum;
  block_sync();
  for (unsigned half = 32; half > 0; half /= 2) {
    if (t < half) sums[t] += sums[t + half];
    block_sync();
  }
  if (t == 0) {
    parts[block_x()] = sums[0];
    fence();
    last[0] = atomic_add(count, 1u) == grid_x() - 1;
    fence();
  }
  block_sync();
  if (t != 63 || !last[0]) return;
  sum = 0;
  for (unsigned b = 0; b < grid_x(); ++b) sum += parts[b];
  *out = sum;
}

std::string run_grid_sum(Device& device) {
  std::vector<int> values(1000);
  for (int i = 0; i < 1000; ++i) values[static_cast<size_t>(i)] = i;
  const Array<int> x(device, values, "x"), parts(device, 5, "parts"), out(device, 1, "out");
  const Array<unsigned> count(device, std::vector<unsigned>{0}, "count");
  GPU_LAUNCH(grid_sum, Dim3{5}, 64, 0, &device, x.get(), 1000, parts.get(), count.get(), out.get());
  return out.values()[0] == 499500 ? "" : "wrong sum";
}

TEST(Simt, AtomicsAndFencesBetweenBlocks) {
  expect_right(run_grid_sum);
  expect_mutants_caught(run_grid_sum, {.block_syncs = 3, .fences = 2});
}

// Ranks exchange parts over flags: all blocks must be there at once.
GPU_KERNEL(32) void ring(int* values, unsigned* flags, int* out) {
  const unsigned rank = block_x(), next = (rank + 1) % grid_x();
  values[rank * 32 + thread_x()] = static_cast<int>(100 * rank + thread_x());
  block_sync();
  if (thread_x() == 0) {
    store_release(&flags[rank], 1u);
    while (load_acquire(&flags[next]) == 0) spin();
  }
  block_sync();
  out[rank * 32 + thread_x()] = values[next * 32 + thread_x()];
}

std::string run_ring(Device& device) {
  device.options.concurrent_blocks = true;
  const Array<int> values(device, 96, "values"), out(device, 96, "out");
  const Array<unsigned> flags(device, std::vector<unsigned>(3), "flags");
  GPU_LAUNCH(ring, Dim3{3}, 32, 0, &device, values.get(), flags.get(), out.get());
  for (int i = 0; i < 96; ++i) {
    if (out.values()[static_cast<size_t>(i)] != 100 * ((i / 32 + 1) % 3) + i % 32) return "wrong value";
  }
  return "";
}

TEST(Simt, FlagsBetweenResidentBlocks) {
  expect_right(run_ring);
  expect_mutants_caught(run_ring, {.block_syncs = 2});
}

TEST(Simt, SpinningWithoutEndIsFound) {
  Device device;
  device.options.spin_limit = 1000;
  const Array<int> values(device, 96, "values"), out(device, 96, "out");
  const Array<unsigned> flags(device, std::vector<unsigned>(3), "flags");
  // One block at a time: the first one waits for a flag that nobody can set.
  expect_error(Fault::kLivelock,
               [&] { GPU_LAUNCH(ring, Dim3{3}, 32, 0, &device, values.get(), flags.get(), out.get()); });
}

// --- asynchronous copies ---------------------------------------------------------------------------------------------

template <int kWait>
GPU_KERNEL(32)
void staged(const float* x, float* y) {
  GPU_SHARED(float, tile, [2][128]);
  const unsigned at = thread_x() * 4;
  gpu::copy_async<16>(&tile[0][at], x + at);
  gpu::copy_async_commit();
  gpu::copy_async<16>(&tile[1][at], x + 128 + at, thread_x() < 30);
  gpu::copy_async_commit();
  gpu::copy_async_wait<kWait>();
  for (unsigned i = 0; i < 4; ++i) y[at + i] = tile[0][at + i];
  gpu::copy_async_wait<0>();
  block_sync();
  for (unsigned i = 0; i < 4; ++i) y[128 + at + i] = tile[1][127 - at - i];
}

template <int kWait>
std::string run_staged(Device& device) {
  const std::vector<float> values = normal_values(256, 2);
  const Array<float> x(device, values, "x"), y(device, 256, "y");
  GPU_LAUNCH(staged<kWait>, Dim3{1}, 32, 0, &device, x.get(), y.get());
  std::vector<double> wanted(values.begin(), values.begin() + 128);
  for (size_t i = 0; i < 128; ++i) wanted.push_back(127 - i < 120 ? values[128 + 127 - i] : 0.0f);
  return difference(y.values(), wanted, 0, 0);
}

TEST(Simt, AsyncCopiesLandWhenWaitedForAndZeroWhatIsNotValid) {
  expect_right(run_staged<1>);
  // The first wait may go only as far as one group; the second and the barrier matter too.
  expect_mutants_caught(run_staged<1>, {.block_syncs = 1, .async_waits = 2});
}

TEST(Simt, TooWeakAWaitShowsEvenInValues) {
  Device device;
  device.options.check = false;
  EXPECT_NE(run_staged<2>(device), "");
}

GPU_KERNEL(32) void never_waits(const float* x) {
  GPU_SHARED(float, tile, [128]);
  gpu::copy_async<16>(&tile[thread_x() * 4], x + thread_x() * 4);
  gpu::copy_async_commit();
}

TEST(Simt, AsyncCopiesMustBeWaitedFor) {
  Device device;
  const Array<float> x(device, std::vector<float>(128), "x");
  expect_error(Fault::kAsyncCopy, [&] { GPU_LAUNCH(never_waits, Dim3{1}, 32, 0, &device, x.get()); });
}

// --- barriers and warp operations used wrongly -----------------------------------------------------------------------

constexpr int kBarrierOfSome = __LINE__ + 2;
GPU_KERNEL(64) void barrier_of_some() {
  if (thread_x() < 40) block_sync();
}

constexpr int kBarrierOfFew = __LINE__ + 3, kBarrierOfMost = __LINE__ + 5;
GPU_KERNEL(64) void two_barriers() {
  if (thread_x() < 10) {
    block_sync();
  } else {
    block_sync();
  }
}

GPU_KERNEL(64) void two_operations(int* out) {
  if (lane_id() < 4) {
    out[thread_x()] = shuffle(1, 0);
  } else {
    warp_sync();
  }
}

GPU_KERNEL(64) void barrier_and_warp() {
  if (thread_x() == 0) {
    block_sync();
  } else {
    warp_sync();
    block_sync();
  }
}

TEST(Simt, BarriersThatNotAllReachAreFoundInEveryOrder) {
  using simt::Order;
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom, Order::kWarpAhead}) {
    Device device;
    device.options.order = order;
    const Error left = expect_error(Fault::kBarrier, [&] { GPU_LAUNCH(barrier_of_some, Dim3{1}, 64, 0, &device); });
    expect_says(left, at_line(kBarrierOfSome));
    expect_says(left, "40 wait at a barrier");
    const Error two = expect_error(Fault::kBarrier, [&] { GPU_LAUNCH(two_barriers, Dim3{1}, 64, 0, &device); });
    expect_says(two, at_line(kBarrierOfFew));
    expect_says(two, at_line(kBarrierOfMost));
    const Array<int> out(device, 64, "out");
    expect_error(Fault::kDivergence, [&] { GPU_LAUNCH(two_operations, Dim3{1}, 64, 0, &device, out.get()); });
    expect_error(Fault::kDeadlock, [&] { GPU_LAUNCH(barrier_and_warp, Dim3{1}, 32, 0, &device); });
  }
}

TEST(Simt, ADeviceGoesOnAfterAFault) {
  Device device;
  for (int i = 0; i < 3; ++i) {
    expect_error(Fault::kBarrier, [&] { GPU_LAUNCH(barrier_of_some, Dim3{1}, 64, 0, &device); });
    EXPECT_EQ(run_grid_sum(device), "");
  }
}

// --- launches and vectors --------------------------------------------------------------------------------------------

GPU_KERNEL(32) void large_array(float* out) {
  GPU_SHARED(float, tile, [30000]);
  tile[thread_x()] = 1.0f;
  *out = tile[thread_x()];
}

GPU_KERNEL(32) void unaligned(const float* x, float* out) {
  *out = static_cast<float>(load_vec<Vec16>(x + 1).words[0]);
}

GPU_KERNEL(64) void dynamic(float* out) {
  GPU_DYNAMIC_SHARED(float, tile);
  tile[thread_x()] = static_cast<float>(thread_x());
  block_sync();
  out[thread_x()] = tile[63 - thread_x()];
}

GPU_KERNEL(32) void stores_elsewhere(float* out, bool shared) {
  GPU_SHARED(gpu::Vec16, tile, [32]);
  if (shared) {
    gpu::store_vec(&tile[thread_x()], gpu::Vec16{});
  } else {
    gpu::store_shared(out, gpu::Vec16{});
  }
}

TEST(Simt, StoresToAnotherMemoryThanTheInstructionsAreRefused) {
  for (const bool shared : {true, false}) {
    Device device;
    const Array<float> out(device, 64, "out");
    expect_error(Fault::kOutOfBounds,
                 [&] { GPU_LAUNCH(stores_elsewhere, Dim3{1}, 32, 0, &device, out.get(), shared); });
  }
}

TEST(Simt, LaunchesThatAGpuRefusesAreRefused) {
  Device device;
  const Array<float> out(device, 64, "out"), x(device, std::vector<float>(8), "x");
  EXPECT_THROW(GPU_LAUNCH(dynamic, Dim3{1}, 1025, 256, &device, out.get()), Error);
  EXPECT_THROW(GPU_LAUNCH(dynamic, Dim3{0}, 64, 256, &device, out.get()), Error);
  EXPECT_THROW(GPU_LAUNCH(dynamic, (Dim3{1, 65536}), 64, 256, &device, out.get()), Error);
  EXPECT_THROW(GPU_LAUNCH(dynamic, Dim3{1}, 64, 100 * 1024, &device, out.get()), Error);
  expect_error(Fault::kSharedMemory, [&] { GPU_LAUNCH(dynamic, Dim3{1}, 64, 0, &device, out.get()); });
  expect_error(Fault::kSharedMemory, [&] { GPU_LAUNCH(large_array, Dim3{1}, 32, 0, &device, out.get()); });
  expect_error(Fault::kMisaligned, [&] { GPU_LAUNCH(unaligned, Dim3{1}, 32, 0, &device, x.get(), out.get()); });
  GPU_LAUNCH(dynamic, Dim3{1}, 64, 256, &device, out.get());
  EXPECT_EQ(out.values()[5], 58.0f);
}

TEST(Simt, HostCopiesStayInsideOneAllocation) {
  Device device;
  const Array<float> x(device, 8, "x"), y(device, 8, "y");
  float values[9] = {};
  EXPECT_THROW(device.write(x.get(), values, 36), std::out_of_range);
  EXPECT_THROW(device.read(values, x.get() + 4, 20), std::out_of_range);
  EXPECT_THROW(device.fill(values, 0, 4), std::out_of_range);
  EXPECT_THROW(device.release(x.get() + 1), std::out_of_range);
  device.write(x.get() + 4, values, 16);
}

}  // namespace
}  // namespace pf
