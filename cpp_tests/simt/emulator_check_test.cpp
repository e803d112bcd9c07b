// What only check mode finds: races, bounds, uninitialized reads, with the lines of both sides; and what accesses cost.
#include "harness.h"

#if PF_SIMT_CHECK

namespace pf {
namespace {

using gpu::atomic_add;
using gpu::block_sync;
using gpu::block_x;
using gpu::Dim3;
using gpu::fence;
using gpu::kWarp;
using gpu::lane_id;
using gpu::load_acquire;
using gpu::spin;
using gpu::store_release;
using gpu::thread_x;
using gpu::warp_sync;
using simt::Device;
using simt::Error;
using simt::Fault;

std::string at_line(int line) { return "emulator_check_test.cpp:" + std::to_string(line); }

// The one fault that a run must report, with these words in its text.
template <class F>
void expect_report(Fault fault, const std::vector<std::string>& words, F run) {
  try {
    run();
  } catch (const Error& error) {
    for (const simt::Report& report : error.reports) EXPECT_EQ(report.fault, fault) << report.text;
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << word << " is not in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "nothing found, not even: " << simt::name_of(fault);
}

const simt::Order kOrders[] = {simt::Order::kForward, simt::Order::kReverse, simt::Order::kRandom,
                               simt::Order::kWarpAhead};

// --- races -----------------------------------------------------------------------------------------------------------

constexpr int kWrite = __LINE__ + 5, kRead = __LINE__ + 7;
template <bool kBarrier>
GPU_KERNEL(128)
void neighbour(float* out) {
  GPU_SHARED(float, tile, [128]);
  tile[thread_x()] = static_cast<float>(thread_x());
  if (kBarrier) block_sync();
  out[thread_x()] = tile[127 - thread_x()];
}

TEST(SimtCheck, ARaceIsFoundInEveryOrderWithBothLines) {
  for (const simt::Order order : kOrders) {
    Device device;
    device.options.order = order;
    const Array<float> out(device, 128, "out");
    GPU_LAUNCH(neighbour<true>, Dim3{1}, 128, 0, &device, out.get());
    try {
      GPU_LAUNCH(neighbour<false>, Dim3{1}, 128, 0, &device, out.get());
      ADD_FAILURE() << "no race";
    } catch (const Error& error) {
      EXPECT_TRUE(error.has(Fault::kRace)) << error.what();
      const std::string text = error.what();
      EXPECT_NE(text.find(at_line(kWrite)), std::string::npos) << text;
      EXPECT_NE(text.find(at_line(kRead)), std::string::npos) << text;
      EXPECT_NE(text.find("tile["), std::string::npos) << text;
    }
  }
}

// The next turn overwrites what others still read.
constexpr int kRefill = __LINE__ + 6, kUse = __LINE__ + 8;
template <bool kBarrier>
GPU_KERNEL(64)
void refill(float* out) {
  GPU_SHARED(float, tile, [64]);
  for (int turn = 0; turn < 3; ++turn) {
    tile[thread_x()] = static_cast<float>(turn);
    block_sync();
    out[thread_x()] = tile[63 - thread_x()];
    if (kBarrier) block_sync();
  }
}

TEST(SimtCheck, WriteAfterRead) {
  for (const simt::Order order : kOrders) {
    Device device;
    device.options.order = order;
    const Array<float> out(device, 64, "out");
    GPU_LAUNCH(refill<true>, Dim3{1}, 64, 0, &device, out.get());
    EXPECT_THROW(GPU_LAUNCH(refill<false>, Dim3{1}, 64, 0, &device, out.get()), Error);
  }
  Device device;
  const Array<float> out(device, 64, "out");
  expect_report(Fault::kRace, {"write after read", at_line(kRefill), at_line(kUse)},
                [&] { GPU_LAUNCH(refill<false>, Dim3{1}, 64, 0, &device, out.get()); });
}

GPU_KERNEL(64) void all_write(int* out, int last) {
  if (last < 0 || static_cast<int>(thread_x()) <= last) out[0] = static_cast<int>(thread_x());
}

GPU_KERNEL(64) void blocks_write(int* out) {
  if (thread_x() == 0) out[0] = static_cast<int>(block_x());
}

TEST(SimtCheck, WriteAfterWrite) {
  Device device;
  const Array<int> out(device, 1, "out");
  expect_report(Fault::kRace, {"write after write of out[0]"},
                [&] { GPU_LAUNCH(all_write, Dim3{1}, 64, 0, &device, out.get(), -1); });
  GPU_LAUNCH(all_write, Dim3{1}, 64, 0, &device, out.get(), 0);
  expect_report(Fault::kRace, {"before block (0,0,0)", "by     block (1,0,0)"},
                [&] { GPU_LAUNCH(blocks_write, Dim3{2}, 64, 0, &device, out.get()); });
}

// Lanes of one warp are not ordered by running together.
template <bool kSync>
GPU_KERNEL(64)
void within_warp(int* out) {
  GPU_SHARED(int, tile, [64]);
  tile[thread_x()] = lane_id();
  if (kSync) warp_sync();
  out[thread_x()] = tile[thread_x() ^ 1u];
}

// A shuffle is no barrier either.
GPU_KERNEL(64) void within_warp_shuffled(int* out) {
  GPU_SHARED(int, tile, [64]);
  tile[thread_x()] = lane_id();
  const int other = gpu::shuffle_xor(lane_id(), 1);
  out[thread_x()] = other + tile[thread_x() ^ 1u];
}

GPU_KERNEL(128) void across_warps(int* out) {
  GPU_SHARED(int, tile, [128]);
  tile[thread_x()] = lane_id();
  warp_sync();
  out[thread_x()] = tile[127 - thread_x()];
}

TEST(SimtCheck, LanesAreOrderedByTheWarpBarrierAlone) {
  Device device;
  const Array<int> out(device, 128, "out");
  GPU_LAUNCH(within_warp<true>, Dim3{1}, 64, 0, &device, out.get());
  EXPECT_THROW(GPU_LAUNCH(within_warp<false>, Dim3{1}, 64, 0, &device, out.get()), Error);
  EXPECT_THROW(GPU_LAUNCH(within_warp_shuffled, Dim3{1}, 64, 0, &device, out.get()), Error);
  EXPECT_THROW(GPU_LAUNCH(across_warps, Dim3{1}, 128, 0, &device, out.get()), Error);
}

// One warp gives a value to another through a flag in shared memory.
enum Handover { kRight, kNoRelease, kNoAcquire, kLateWrite };
template <Handover kHow>
GPU_KERNEL(128)
void hand_over(int* data, int* out) {
  GPU_SHARED(unsigned, flag, [1]);
  if (thread_x() == 0) flag[0] = 0;
  block_sync();
  if (thread_x() == 0) {
    if (kHow != kLateWrite) data[0] = 7;
    if (kHow != kNoRelease) fence();
    if (kHow == kLateWrite) data[0] = 7;
    atomic_add(&flag[0], 1u);
  } else if (thread_x() == 64) {
    while (atomic_add(&flag[0], 0u) == 0) spin();
    if (kHow != kNoAcquire) fence();
    out[0] = data[0];
  }
}

TEST(SimtCheck, FencesOrderWhatIsBeforeThemAndNothingElse) {
  for (const simt::Order order : kOrders) {
    Device device;
    device.options.order = order;
    const Array<int> data(device, std::vector<int>{0}, "data"), out(device, 1, "out");
    GPU_LAUNCH(hand_over<kRight>, Dim3{1}, 128, 0, &device, data.get(), out.get());
    EXPECT_EQ(out.values()[0], 7);
    EXPECT_THROW(GPU_LAUNCH(hand_over<kNoRelease>, Dim3{1}, 128, 0, &device, data.get(), out.get()), Error);
    EXPECT_THROW(GPU_LAUNCH(hand_over<kNoAcquire>, Dim3{1}, 128, 0, &device, data.get(), out.get()), Error);
    EXPECT_THROW(GPU_LAUNCH(hand_over<kLateWrite>, Dim3{1}, 128, 0, &device, data.get(), out.get()), Error);
  }
}

GPU_KERNEL(32) void chain(int* data, unsigned* flags, int* out, bool publish) {
  // Block 0 writes; block 1 learns of it and passes it on; block 2 reads. Release and acquire carry over.
  if (thread_x() != 0) return;
  if (block_x() == 0) {
    data[0] = 5;
    store_release(&flags[0], 1u);
  } else if (block_x() == 1) {
    if (publish) {
      while (load_acquire(&flags[0]) == 0) spin();
    }
    store_release(&flags[1], 1u);
  } else {
    while (load_acquire(&flags[1]) == 0) spin();
    out[0] = data[0];
  }
}

TEST(SimtCheck, WhatWasAcquiredIsReleasedAgain) {
  for (const simt::Order order : kOrders) {
    Device device;
    device.options.order = order;
    device.options.concurrent_blocks = true;
    const Array<int> data(device, std::vector<int>{0}, "data"), out(device, 1, "out");
    for (const bool publish : {true, false}) {
      const Array<unsigned> flags(device, std::vector<unsigned>(2), "flags");
      const auto run = [&] { GPU_LAUNCH(chain, Dim3{3}, 32, 0, &device, data.get(), flags.get(), out.get(), publish); };
      if (publish) {
        run();
        EXPECT_EQ(out.values()[0], 5);
      } else {
        EXPECT_THROW(run(), Error);
      }
    }
  }
}

// More readers than are kept one by one.
template <bool kBarrier>
GPU_KERNEL(256)
void many_readers(int* out) {
  GPU_SHARED(int, value, [1]);
  if (thread_x() == 0) value[0] = 1;
  block_sync();
  out[thread_x()] = value[0];
  if (kBarrier) block_sync();
  if (thread_x() == 254) value[0] = 2;
}

TEST(SimtCheck, AWriteAfterManyReads) {
  Device device;
  const Array<int> out(device, 256, "out");
  GPU_LAUNCH(many_readers<true>, Dim3{1}, 64, 0, &device, out.get());
  GPU_LAUNCH(many_readers<true>, Dim3{1}, 256, 0, &device, out.get());
  expect_report(Fault::kRace, {"write after read of value[0]"},
                [&] { GPU_LAUNCH(many_readers<false>, Dim3{1}, 256, 0, &device, out.get()); });
}

// --- bounds and initialization ---------------------------------------------------------------------------------------

constexpr int kGlobalRead = __LINE__ + 2;
GPU_KERNEL(32) void read_at(const float* x, int at, float* out) {
  const float value = x[at];
  if (thread_x() == 0) out[0] = value;
}
constexpr int kSharedRead = __LINE__ + 5;
GPU_KERNEL(32) void read_shared_at(int at, float* out) {
  GPU_SHARED(float, before, [32]);
  GPU_SHARED(float, tile, [32]);
  before[thread_x()] = tile[thread_x()] = 1.0f;
  const float value = tile[static_cast<int>(thread_x()) + at];
  if (thread_x() == 0) out[0] = value;
}

TEST(SimtCheck, AccessesOutsideArrays) {
  Device device;
  const Array<float> x(device, std::vector<float>(10), "x"), out(device, 1, "out");
  for (const int at : {0, 9}) GPU_LAUNCH(read_at, Dim3{1}, 32, 0, &device, x.get(), at, out.get());
  const auto read = [&](int at) {
    return [&, at] { GPU_LAUNCH(read_at, Dim3{1}, 32, 0, &device, x.get(), at, out.get()); };
  };
  expect_report(Fault::kOutOfBounds, {"x[40] of 40 bytes", at_line(kGlobalRead)}, read(10));
  expect_report(Fault::kOutOfBounds, {"x[-4] of 40 bytes", at_line(kGlobalRead)}, read(-1));
  expect_report(Fault::kOutOfBounds, {"not the device's", at_line(kGlobalRead)}, read(1 << 28));
  GPU_LAUNCH(read_shared_at, Dim3{1}, 1, 0, &device, 0, out.get());
  const auto shared = [&](int at) {
    return [&, at] { GPU_LAUNCH(read_shared_at, Dim3{1}, 1, 0, &device, at, out.get()); };
  };
  expect_report(Fault::kOutOfBounds, {"tile[128] of 128 bytes", at_line(kSharedRead)}, shared(32));
  expect_report(Fault::kOutOfBounds, {at_line(kSharedRead)}, shared(-1));

  std::vector<float> host(4);
  expect_report(Fault::kOutOfBounds, {"not the device's"},
                [&] { GPU_LAUNCH(read_at, Dim3{1}, 32, 0, &device, host.data(), 0, out.get()); });
}

TEST(SimtCheck, ReadsOfWhatNobodyWrote) {
  Device device;
  const Array<float> x(device, 10, "x"), out(device, 1, "out");
  expect_report(Fault::kUninitialized, {"x[12]", at_line(kGlobalRead)},
                [&] { GPU_LAUNCH(read_at, Dim3{1}, 32, 0, &device, x.get(), 3, out.get()); });
  device.fill(x.get(), 0, 40);
  GPU_LAUNCH(read_at, Dim3{1}, 32, 0, &device, x.get(), 3, out.get());
  // Shared memory is new to each block, whatever the one before left there.
  expect_report(Fault::kUninitialized, {"tile[12]", at_line(kSharedRead)},
                [&] { GPU_LAUNCH(read_shared_at, Dim3{1}, 1, 0, &device, 3, out.get()); });
}

GPU_KERNEL(32) void lend_local(const int** shared_pointer, int* out) {
  int local = static_cast<int>(thread_x());
  if (thread_x() == 0) shared_pointer[0] = &local;
  block_sync();
  if (thread_x() == 1) out[0] = *shared_pointer[0];
  block_sync();
  local += 1;
  if (thread_x() == 0) out[1] = local;
}

TEST(SimtCheck, LocalMemoryIsNobodyElses) {
  Device device;
  const Array<const int*> pointer(device, 1, "pointer");
  const Array<int> out(device, 2, "out");
  expect_report(Fault::kOutOfBounds, {"another thread's local memory"},
                [&] { GPU_LAUNCH(lend_local, Dim3{1}, 32, 0, &device, pointer.get(), out.get()); });
}

GPU_KERNEL(1) void never_ends(int* x) {
  for (unsigned i = 0; x[i % 2] >= 0; ++i) x[i % 2] = 0;
}

TEST(SimtCheck, ALoopWithoutEndIsFound) {
  Device device;
  device.options.access_limit = 10'000;
  const Array<int> x(device, std::vector<int>{0, 0}, "x");
  expect_report(Fault::kLivelock, {"no end in sight at emulator_check_test.cpp"},
                [&] { GPU_LAUNCH(never_ends, Dim3{1}, 1, 0, &device, x.get()); });
}

// --- mutants ---------------------------------------------------------------------------------------------------------

GPU_KERNEL(64) void with_plants(int* out, int n) {
  GPU_SHARED(int, tile, [64]);
  tile[thread_x()] = static_cast<int>(thread_x());
  block_sync();
  const unsigned from = GPU_PLANTED("index") ? thread_x() + 1 : 63 - thread_x();
  if (static_cast<int>(thread_x()) < n || GPU_PLANTED("guard")) out[thread_x()] = tile[from];
}

std::string run_with_plants(Device& device) {
  const Array<int> out(device, 60, "out");
  GPU_LAUNCH(with_plants, Dim3{1}, 64, 0, &device, out.get(), 60);
  return out.values()[0] == 63 ? "" : "wrong value";
}

TEST(SimtCheck, EverySiteHasAMutantAndEveryMutantIsNoticed) {
  expect_mutants_caught(run_with_plants, {.block_syncs = 1, .plants = {"guard", "index"}});
}

// --- what accesses cost ----------------------------------------------------------------------------------------------

template <int kPad>
GPU_KERNEL(64)
void transpose(const float* x, float* y) {
  GPU_SHARED(float, tile, [32][32 + kPad]);
  const unsigned column = thread_x() % 32, begin = thread_x() / 32;
  for (unsigned row = begin; row < 32; row += 2) tile[row][column] = x[row * 32 + column];
  block_sync();
  for (unsigned row = begin; row < 32; row += 2) y[row * 32 + column] = tile[column][row];
}

GPU_KERNEL(64) void strided(const float* x, float* y) { y[thread_x()] = x[thread_x() * 8]; }

// The largest factor among accesses of shared, or of global, memory.
template <class F>
double worst_factor(Device& device, bool shared, F run) {
  device.options.count = true;
  run();
  double worst = 0;
  for (const simt::AccessCount& count : device.take_counts()) {
    EXPECT_NE(count.at.find("emulator_check_test.cpp"), std::string::npos) << count.at;
    if (count.shared == shared) worst = std::max(worst, count.factor());
  }
  return worst;
}

TEST(SimtCheck, BankConflictsAndSectorsAreCounted) {
  Device device;
  const Array<float> x(device, std::vector<float>(1024), "x"), y(device, 1024, "y");
  const auto padded = [&] { GPU_LAUNCH(transpose<1>, Dim3{1}, 64, 0, &device, x.get(), y.get()); };
  const auto unpadded = [&] { GPU_LAUNCH(transpose<0>, Dim3{1}, 64, 0, &device, x.get(), y.get()); };
  const auto apart = [&] { GPU_LAUNCH(strided, Dim3{1}, 64, 0, &device, x.get(), y.get()); };
  EXPECT_EQ(worst_factor(device, true, padded), 1.0);
  EXPECT_EQ(worst_factor(device, true, unpadded), 32.0);
  EXPECT_EQ(worst_factor(device, false, padded), 1.0);
  EXPECT_EQ(worst_factor(device, false, apart), 8.0);
}

}  // namespace
}  // namespace pf

#endif
