// Mbarriers and bulk copies on the emulator: what they compute, and that each kind of misuse is found and named.
#include "harness.h"

#if GPU_HAS_BULK

namespace pf {
namespace {

using gpu::barrier_arrive, gpu::barrier_arrive_expect, gpu::barrier_init, gpu::barrier_invalidate,
    gpu::barrier_try_wait, gpu::barrier_wait, gpu::block_sync, gpu::block_x, gpu::copy_bulk, gpu::Dim3,
    gpu::fence_async, gpu::lane_id, gpu::Mbarrier, gpu::spin, gpu::store_bulk, gpu::store_bulk_commit,
    gpu::store_bulk_wait, gpu::store_bulk_wait_read, gpu::thread_x, gpu::Vec16, gpu::warp_id, gpu::warp_sync;
using simt::Device, simt::Error, simt::Fault;

// --- what kernels compute --------------------------------------------------------------------------------------------

// A ring of stages that one thread fills and all warps empty: y = 2 x + 1, a stage of 64 floats at a time.
constexpr int kStages = 3, kStage = 64;
GPU_KERNEL(kStage) void through_a_ring(const float* x, float* y, int stages) {
  GPU_SHARED(float, in, [kStages][kStage]);
  GPU_SHARED(Mbarrier, full, [kStages]);
  GPU_SHARED(Mbarrier, empty, [kStages]);
  const int t = static_cast<int>(thread_x()), first = static_cast<int>(block_x()) * stages;
  if (t == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(&full[s], 1);
      barrier_init(&empty[s], 2);
    }
    fence_async();
  }
  block_sync();
  const auto fetch = [&](int i) {
    const int s = i % kStages;
    const float* from = x + (first + i) * kStage;
    barrier_wait(&empty[s], static_cast<unsigned>(i / kStages + 1) % 2);
    barrier_arrive_expect(&full[s], kStage * 4);
    copy_bulk(in[s], from, kStage * 2, &full[s]);
    copy_bulk(in[s] + kStage / 2, from + kStage / 2, kStage * 2, &full[s]);
  };
  for (int i = 0; t == 0 && i < kStages - 1 && i < stages; ++i) fetch(i);
  for (int i = 0; i < stages; ++i) {
    const int s = i % kStages;
    if (t == 0 && i + kStages - 1 < stages) fetch(i + kStages - 1);
    barrier_wait(&full[s], static_cast<unsigned>(i / kStages) % 2);
    y[(first + i) * kStage + t] = 2 * in[s][t ^ 1] + 1;
    warp_sync();
    if (lane_id() == 0) barrier_arrive(&empty[s]);
  }
}

// The same, out of two buffers that bulk copies take away.
GPU_KERNEL(kStage) void out_by_turns(const float* x, float* y, int stages) {
  GPU_SHARED(float, out, [2][kStage]);
  const int t = static_cast<int>(thread_x()), first = static_cast<int>(block_x()) * stages;
  for (int i = 0; i < stages; ++i) {
    if (t == 0) store_bulk_wait_read<1>();
    block_sync();
    out[i % 2][t ^ 1] = 2 * x[(first + i) * kStage + t] + 1;
    fence_async();
    block_sync();
    if (t == 0) store_bulk(y + (first + i) * kStage, out[i % 2], kStage * 4), store_bulk_commit();
  }
  if (t == 0) store_bulk_wait_read<0>();
}

template <bool kIn>
std::string run_ring(Device& device) {
  constexpr size_t kTurns = 8, kBlocks = 3;
  const std::vector<float> values = normal_values(kBlocks * kTurns * kStage, 1);
  const Array<float> x(device, values, "x"), y(device, values.size(), "y");
  GPU_LAUNCH((kIn ? through_a_ring : out_by_turns), Dim3{kBlocks}, kStage, 0, &device, x.get(), y.get(), kTurns);
  std::vector<double> wanted;
  for (size_t i = 0; i < values.size(); ++i) wanted.push_back(double{2 * values[i ^ 1] + 1});
  return difference(y.values(), wanted, 0, 0);
}

TEST(SimtBulk, Rings) {
  expect_right(run_ring<true>);
  expect_right(run_ring<false>);
}

TEST(SimtBulk, EveryWaitArrivalAndFenceOfTheRingsIsMissed) {
  expect_mutants_caught(run_ring<true>,
                        {.block_syncs = 1, .warp_syncs = 1, .arrivals = 2, .barrier_waits = 2, .proxy_fences = 1});
  expect_mutants_caught(run_ring<false>, {.block_syncs = 2, .async_waits = 2, .proxy_fences = 1});
}

TEST(SimtBulk, WholeSectorsAndNoBankTwice) {
  expect_full_accesses(run_ring<true>);
  expect_full_accesses(run_ring<false>);
}

// Phases without copies order threads; a barrier begins anew once it was invalidated.
GPU_KERNEL(64) void turns(int* out) {
  GPU_SHARED(int, value, [1]);
  GPU_SHARED(Mbarrier, written, [1]);
  GPU_SHARED(Mbarrier, taken, [1]);
  for (int round = 0; round < 2; ++round) {
    if (thread_x() == 0) {
      barrier_init(written, 1);
      barrier_init(taken, 63);
    }
    block_sync();
    for (unsigned i = 0; i < 5; ++i) {
      if (thread_x() == 0) {
        value[0] = static_cast<int>(10 * i);
        barrier_arrive(written);
        while (!barrier_try_wait(taken, i % 2)) spin();
      } else {
        barrier_wait(written, i % 2);
        out[thread_x()] = value[0] + round;
        barrier_arrive(taken);
      }
    }
    if (thread_x() == 0) {
      barrier_invalidate(written);
      barrier_invalidate(taken);
    }
  }
}

std::string run_turns(Device& device) {
  device.options.spin_limit = 10'000;
  const Array<int> out(device, std::vector<int>(64), "out");
  GPU_LAUNCH(turns, Dim3{1}, 64, 0, &device, out.get());
  return out.values()[63] == 41 && out.values()[1] == 41 ? "" : "wrong value";
}

TEST(SimtBulk, PhasesOrderThreads) {
  expect_right(run_turns);
  expect_mutants_caught(run_turns, {.block_syncs = 1, .arrivals = 2, .barrier_waits = 2});
}

// A copy out lands with its kernel, at the latest, if shared memory was waited for.
GPU_KERNEL(32) void copy_out(float* y, bool wait) {
  GPU_SHARED(float, tile, [32]);
  tile[thread_x()] = 3.0f;
  fence_async();
  block_sync();
  if (thread_x() != 0) return;
  store_bulk(y, tile, 128);
  store_bulk_commit();
  if (wait) {
    store_bulk_wait<0>();
    y[0] += 1.0f;
  } else {
    store_bulk_wait_read<0>();
  }
}

TEST(SimtBulk, CopiesOutLand) {
  for (const bool wait : {true, false}) {
    expect_right([&](Device& device) -> std::string {
      const Array<float> y(device, 32, "y");
      GPU_LAUNCH(copy_out, Dim3{1}, 32, 0, &device, y.get(), wait);
      return y.values()[0] == (wait ? 4.0f : 3.0f) && y.values()[31] == 3.0f ? "" : "wrong value";
    });
  }
}

// --- misuse ----------------------------------------------------------------------------------------------------------

template <class Body>
GPU_KERNEL(64)
void body_kernel(Body body) {
  body();
}

// Whatever the order, this fault is found first in a block of two warps that runs `body` with 64 floats, and the text
// has these words.
template <class Body>
void expect_fault(Fault fault, const std::vector<std::string>& words, Body body) {
  for (const simt::Order order :
       {simt::Order::kForward, simt::Order::kReverse, simt::Order::kRandom, simt::Order::kWarpAhead}) {
    Device device;
    device.options.order = order;
    device.options.spin_limit = 1000;
    const Array<float> x(device, std::vector<float>(64), "x");
    float* const p = x.get();
    const auto run = [=] { body(p); };
    try {
      GPU_LAUNCH(body_kernel<decltype(run)>, Dim3{1}, 64, 0, &device, run);
      ADD_FAILURE() << "nothing found, not even: " << simt::name_of(fault);
    } catch (const Error& error) {
      ASSERT_FALSE(error.reports.empty()) << error.what();
      EXPECT_EQ(error.reports[0].fault, fault) << error.what();
      for (const std::string& word : words) {
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << word << " is not in: " << error.what();
      }
    }
  }
}

std::string at_line(int line) { return "bulk_test.cpp:" + std::to_string(line); }

// Initialized by the first thread, for all threads and for copies.
constexpr int kInitLine = __LINE__ + 2;
GPU_DEVICE void make_barrier(Mbarrier* barrier, int arrivals) {
  if (thread_x() == 0) barrier_init(barrier, arrivals);
  if (thread_x() == 0) fence_async();
  block_sync();
}

TEST(SimtBulk, MbarriersLiveFromInitializationToInvalidation) {
  expect_fault(Fault::kMbarrier, {"not initialized", at_line(__LINE__ + 2)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    if (thread_x() == 0) barrier_arrive(barrier);
  });
  expect_fault(Fault::kMbarrier, {"not initialized", at_line(__LINE__ + 5)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    make_barrier(barrier, 1);
    if (thread_x() == 0) {
      barrier_invalidate(barrier);
      barrier_wait(barrier, 0);
    }
  });
  expect_fault(Fault::kMbarrier, {"initialized again", at_line(kInitLine), at_line(__LINE__ + 3)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    make_barrier(barrier, 1);
    if (thread_x() == 1) barrier_init(barrier, 1);
  });
  expect_fault(Fault::kMbarrier, {"of 0 arrivals", at_line(kInitLine)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    make_barrier(barrier, 0);
  });
  expect_fault(Fault::kMbarrier, {"outside shared memory", at_line(__LINE__ + 1)}, [](float* x) {
    if (thread_x() == 0) barrier_init(reinterpret_cast<Mbarrier*>(x), 1);
  });
  expect_fault(Fault::kMbarrier, {"misaligned", at_line(__LINE__ + 2)}, [](float*) {
    GPU_SHARED(uint32_t, words, [4]);
    if (thread_x() == 0) barrier_init(reinterpret_cast<Mbarrier*>(words + 1), 1);
  });
  expect_fault(Fault::kMbarrier, {"ordinary write of mbarrier barriers[1]", at_line(kInitLine)}, [](float*) {
    GPU_SHARED(Mbarrier, barriers, [2]);
    make_barrier(barriers + 1, 1);
    if (thread_x() == 5) gpu::store_shared(barriers, Vec16{});
  });
}

TEST(SimtBulk, ArrivalsAndBytesMustBeThoseOfThePhase) {
  expect_fault(Fault::kMbarrier,
               {"more arrivals than the 1 of mbarrier full[0]", at_line(kInitLine), at_line(__LINE__ + 6),
                at_line(__LINE__ + 6)},
               [](float*) {
                 GPU_SHARED(Mbarrier, full, [1]);
                 make_barrier(full, 1);
                 if (thread_x() != 0) return;
                 barrier_arrive_expect(full, 16);
                 barrier_arrive(full);
               });
  expect_fault(Fault::kMbarrier,
               {"copies of 128 bytes", "that expects 64", at_line(__LINE__ + 4), at_line(__LINE__ + 5)}, [](float* x) {
                 GPU_SHARED(Vec16, tile, [8]);
                 GPU_SHARED(Mbarrier, full, [1]);
                 make_barrier(full, 1);
                 if (thread_x() == 0) barrier_arrive_expect(full, 64);
                 if (thread_x() == 0) copy_bulk(tile, x, 128, full);
               });
  expect_fault(Fault::kMbarrier, {"a phase of 1048576 bytes", at_line(__LINE__ + 3)}, [](float*) {
    GPU_SHARED(Mbarrier, full, [1]);
    make_barrier(full, 1);
    if (thread_x() == 0) barrier_arrive_expect(full, 1 << 20);
  });
  expect_fault(Fault::kMbarrier, {"invalidated before the bulk copy", at_line(__LINE__ + 6), at_line(__LINE__ + 7)},
               [](float* x) {
                 GPU_SHARED(Vec16, tile, [8]);
                 GPU_SHARED(Mbarrier, full, [1]);
                 make_barrier(full, 1);
                 if (thread_x() != 0) return;
                 copy_bulk(tile, x, 128, full);
                 barrier_invalidate(full);
               });
}

// Nobody may go on by two phases while somebody waits for the first of them.
TEST(SimtBulk, PhasesThatAreMissed) {
  Device device;
  device.options.order = simt::Order::kForward;  // the last thread waits before the first one arrives
  const auto run = [] {
    GPU_SHARED(Mbarrier, barrier, [1]);
    make_barrier(barrier, 1);
    if (thread_x() == 63) barrier_wait(barrier, 0);
    if (thread_x() == 0) barrier_arrive(barrier), barrier_arrive(barrier);
  };
  try {
    GPU_LAUNCH(body_kernel<decltype(run)>, Dim3{1}, 64, 0, &device, run);
    ADD_FAILURE() << "nothing found";
  } catch (const Error& error) {
    EXPECT_TRUE(error.has(Fault::kMbarrier)) << error.what();
    EXPECT_NE(std::string(error.what()).find("before a thread saw the end"), std::string::npos) << error.what();
  }
}

// Whose phase never ends, the block stands still: the report says which barrier lacks what.
TEST(SimtBulk, WaitsWithoutEnd) {
  expect_fault(
      Fault::kDeadlock,
      {"64 at an mbarrier", "lacks 1 of 2 arrivals", at_line(kInitLine), at_line(__LINE__ + 4), at_line(__LINE__ + 5)},
      [](float*) {
        GPU_SHARED(Mbarrier, barrier, [1]);
        make_barrier(barrier, 2);
        if (thread_x() == 9) barrier_arrive(barrier);
        barrier_wait(barrier, 0);
      });
  expect_fault(Fault::kDeadlock, {"for phase 0 of mbarrier barrier[0]", "lacks 0 of 1 arrivals", "64 of 192 bytes"},
               [](float* x) {
                 GPU_SHARED(Vec16, tile, [8]);
                 GPU_SHARED(Mbarrier, barrier, [1]);
                 make_barrier(barrier, 1);
                 if (thread_x() == 0) {
                   copy_bulk(tile, x, 128, barrier);
                   barrier_arrive_expect(barrier, 192);
                 }
                 barrier_wait(barrier, 0);
               });
  // The second phase has parity 1; nobody arrives for the third.
  expect_fault(Fault::kDeadlock, {"for phase 2", "lacks 64 of 64 arrivals", at_line(__LINE__ + 6)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    make_barrier(barrier, 64);
    for (int phase = 0; phase < 2; ++phase) {
      barrier_arrive(barrier);
      block_sync();
      barrier_wait(barrier, 0);
    }
  });
  expect_fault(Fault::kLivelock, {at_line(__LINE__ + 3)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    make_barrier(barrier, 1);
    while (!barrier_try_wait(barrier, 0)) spin();
  });
}

TEST(SimtBulk, SizesAddressesAndSpacesOfCopies) {
  const auto copy = [](int to, int from, int bytes) {
    return [=](float* x) {
      GPU_SHARED(Vec16, tile, [8]);
      GPU_SHARED(Mbarrier, full, [1]);
      make_barrier(full, 1);
      if (thread_x() == 0) copy_bulk(reinterpret_cast<char*>(tile) + to, x + from, bytes, full);
    };
  };
  expect_fault(Fault::kMisaligned, {"bulk copy of 40 bytes", "bulk_test.cpp"}, copy(0, 0, 40));
  expect_fault(Fault::kMisaligned, {"bulk copy of 0 bytes"}, copy(0, 0, 0));
  expect_fault(Fault::kMisaligned, {"shared memory that is not aligned to 16"}, copy(8, 0, 64));
  expect_fault(Fault::kMisaligned, {"global memory that is not aligned to 16"}, copy(0, 2, 64));
  expect_fault(Fault::kOutOfBounds, {"tile[64] of 128 bytes"}, copy(64, 0, 80));
  expect_fault(Fault::kOutOfBounds, {"x[240] of 256 bytes"}, copy(0, 60, 32));
  expect_fault(Fault::kOutOfBounds, {"not between shared and global memory", at_line(__LINE__ + 4)}, [](float*) {
    GPU_SHARED(Vec16, tile, [8]);
    GPU_SHARED(Mbarrier, full, [1]);
    make_barrier(full, 1);
    if (thread_x() == 0) copy_bulk(tile, tile + 4, 64, full);
  });
  expect_fault(Fault::kOutOfBounds, {"not between shared and global memory", at_line(__LINE__ + 2)}, [](float* x) {
    GPU_SHARED(Vec16, tile, [8]);
    if (thread_x() == 0) store_bulk(tile, x, 64);
  });
  expect_fault(Fault::kMisaligned, {"bulk copy of 24 bytes", at_line(__LINE__ + 2)}, [](float* x) {
    GPU_SHARED(Vec16, tile, [8]);
    if (thread_x() == 0) store_bulk(x, tile, 24);
  });
}

TEST(SimtBulk, CopiesMustBeWaitedFor) {
  expect_fault(Fault::kAsyncCopy, {"a block ended before its bulk copy", at_line(__LINE__ + 6)}, [](float* x) {
    GPU_SHARED(Vec16, tile, [8]);
    GPU_SHARED(Mbarrier, full, [1]);
    make_barrier(full, 1);
    if (thread_x() != 0) return;
    barrier_arrive_expect(full, 128);
    copy_bulk(tile, x, 128, full);
  });
  // With and without a group.
  for (const bool commit : {true, false}) {
    expect_fault(Fault::kAsyncCopy, {"a thread ended before its bulk copy", at_line(__LINE__ + 6)}, [=](float* x) {
      GPU_SHARED(Vec16, tile, [64]);
      gpu::store_shared(tile + thread_x(), Vec16{});
      fence_async();
      block_sync();
      if (thread_x() != 0) return;
      store_bulk(x, tile, 128);
      if (commit) store_bulk_commit();
    });
  }
}

// What comes too early meets NaNs, in every order, even where accesses are not tracked.
TEST(SimtBulk, TargetsAreDestroyedWhenACopyIsIssued) {
  const auto kernel = [](const float* x, float* y, bool wait) {
    GPU_SHARED(float, tile, [64]);
    GPU_SHARED(Mbarrier, full, [1]);
    make_barrier(full, 1);
    if (thread_x() != 0) return;
    barrier_arrive_expect(full, 256);
    copy_bulk(tile, x, 256, full);
    if (wait) barrier_wait(full, 0);
    y[0] = tile[17];
    if (!wait) barrier_wait(full, 0);
    store_bulk(y + 4, tile, 64);
    store_bulk_commit();
    y[1] = y[7];
    store_bulk_wait<0>();
    y[2] = y[7];
  };
  for (const bool wait : {true, false}) {
    Device device;
    device.options.check = false;
    const Array<float> x(device, std::vector<float>(64, 2.0f), "x"), y(device, std::vector<float>(20, 1.0f), "y");
    const auto run = [=, from = static_cast<const float*>(x.get()), to = y.get()] { kernel(from, to, wait); };
    GPU_LAUNCH(body_kernel<decltype(run)>, Dim3{1}, 64, 0, &device, run);
    const std::vector<float> got = y.values();
    EXPECT_EQ(std::isnan(got[0]), !wait);
    EXPECT_TRUE(std::isnan(got[1]));
    EXPECT_EQ(got[2], 2.0f);
  }
}

// --- what check mode finds -------------------------------------------------------------------------------------------

#if PF_SIMT_CHECK

TEST(SimtBulkCheck, AnInitializationThatOthersDoNotKnowOf) {
  expect_fault(Fault::kRace, {"use of mbarrier barrier[0]", at_line(__LINE__ + 2), at_line(__LINE__ + 3)}, [](float*) {
    GPU_SHARED(Mbarrier, barrier, [1]);
    if (thread_x() == 0) barrier_init(barrier, 64);
    if (gpu::ballot(true) != 0 && thread_x() < 32) barrier_arrive(barrier);
  });
}

TEST(SimtBulkCheck, AReadBeforeTheWait) {
  expect_fault(Fault::kUninitialized, {"tile[", at_line(__LINE__ + 6)}, [](float* x) {
    GPU_SHARED(float, tile, [64]);
    GPU_SHARED(Mbarrier, full, [1]);
    make_barrier(full, 1);
    if (thread_x() != 0) return;
    barrier_arrive_expect(full, 256), copy_bulk(tile, x, 256, full);
    const float early = tile[3];
    barrier_wait(full, 0);
    x[0] = early;
  });
}

// The first warp has waited, the second one has not: the copy has landed and yet nothing orders it before the read.
TEST(SimtBulkCheck, AReadByWhoDidNotWait) {
  constexpr int kCopy = __LINE__ + 7, kRead = __LINE__ + 12;
  const auto kernel = [](float* x, bool all_wait) {
    GPU_SHARED(float, tile, [64]);
    GPU_SHARED(unsigned, flag, [1]);
    GPU_SHARED(Mbarrier, full, [1]);
    if (thread_x() == 0) flag[0] = 0;
    make_barrier(full, 1);
    if (thread_x() == 0) barrier_arrive_expect(full, 256), copy_bulk(tile, x, 256, full);
    if (thread_x() < 32 || all_wait) barrier_wait(full, 0);
    if (thread_x() == 0) gpu::atomic_add(flag, 1u);
    if (thread_x() != 40) return;
    while (gpu::atomic_add(flag, 0u) == 0) spin();
    x[1] = tile[40];
  };
  expect_fault(Fault::kRace, {"a bulk copy", at_line(kCopy), at_line(kRead)}, [=](float* x) { kernel(x, false); });
  Device device;
  const Array<float> x(device, std::vector<float>(64), "x");
  const auto run = [=, p = x.get()] { kernel(p, true); };
  GPU_LAUNCH(body_kernel<decltype(run)>, Dim3{1}, 64, 0, &device, run);
}

// The wait of a wrong parity is over at once, since a new barrier's phase of parity 1 is.
TEST(SimtBulkCheck, AWrongParity) {
  expect_fault(Fault::kUninitialized, {"tile[", at_line(__LINE__ + 7)}, [](float* x) {
    GPU_SHARED(float, tile, [64]);
    GPU_SHARED(Mbarrier, full, [1]);
    make_barrier(full, 1);
    if (thread_x() != 0) return;
    barrier_arrive_expect(full, 256), copy_bulk(tile, x, 256, full);
    barrier_wait(full, 1);
    const float early = tile[3];
    barrier_wait(full, 0);
    x[0] = early;
  });
}

// The second copy comes when the other warp has read what the first one brought, but nobody said so.
TEST(SimtBulkCheck, ABufferThatIsStillRead) {
  constexpr int kCopy = __LINE__ + 11, kRead = __LINE__ + 14;
  const auto kernel = [](float* x, bool wait) {
    GPU_SHARED(float, tile, [64]);
    GPU_SHARED(unsigned, flag, [1]);
    GPU_SHARED(Mbarrier, full, [1]);
    GPU_SHARED(Mbarrier, empty, [1]);
    if (thread_x() == 0) flag[0] = 0;
    make_barrier(full, 1);
    make_barrier(empty, 64);
    for (unsigned i = 0; i < 2; ++i) {
      if (thread_x() == 0 && i == 1 && wait) barrier_wait(empty, 0);
      if (thread_x() == 0) barrier_arrive_expect(full, 128), copy_bulk(tile, x, 128, full);
      barrier_wait(full, i);
      if (thread_x() == 63) {
        x[32 + i] = tile[0];
        gpu::atomic_add(flag, 1u);
      }
      while (gpu::atomic_add(flag, 0u) == i) spin();
      barrier_arrive(empty);
    }
  };
  expect_fault(Fault::kRace, {"write after read of tile[0]", at_line(kCopy), at_line(kRead)},
               [=](float* x) { kernel(x, false); });
  Device device;
  const Array<float> x(device, std::vector<float>(64), "x");
  const auto run = [=, p = x.get()] { kernel(p, true); };
  GPU_LAUNCH(body_kernel<decltype(run)>, Dim3{1}, 64, 0, &device, run);
}

// A copy out of what threads wrote: the fence must stand behind the stores, and before the barrier.
TEST(SimtBulkCheck, StoresBehindNoProxyFence) {
  enum Fence { kNone, kBeforeTheStores, kBehindTheBarrier, kRight };
  constexpr int kStore = __LINE__ + 4, kCopy = __LINE__ + 10;
  const auto kernel = [](float* x, Fence fence) {
    GPU_SHARED(float, tile, [64]);
    if (fence == kBeforeTheStores) fence_async();
    tile[thread_x()] = 1.0f;
    if (fence == kRight) fence_async();
    block_sync();
    if (fence == kBehindTheBarrier && thread_x() == 32) fence_async();
    if (fence == kBehindTheBarrier) warp_sync();
    if (thread_x() != 0) return;
    store_bulk(x, tile, 256);
    store_bulk_commit();
    store_bulk_wait<0>();
  };
  for (const Fence fence : {kNone, kBeforeTheStores, kBehindTheBarrier}) {
    expect_fault(Fault::kProxyFence, {"tile[0]", at_line(kStore), at_line(kCopy)}, [=](float* x) { kernel(x, fence); });
  }
  Device device;
  const Array<float> x(device, 64, "x");
  const auto run = [=, p = x.get()] { kernel(p, kRight); };
  GPU_LAUNCH(body_kernel<decltype(run)>, Dim3{1}, 64, 0, &device, run);
  EXPECT_EQ(x.values()[63], 1.0f);
  // Of memory that an earlier launch wrote, and of a barrier's initialization.
  expect_fault(Fault::kProxyFence,
               {"the initialization of mbarrier full[0]", at_line(__LINE__ + 4), at_line(__LINE__ + 5)}, [](float* p) {
                 GPU_SHARED(float, tile, [64]);
                 GPU_SHARED(Mbarrier, full, [1]);
                 if (thread_x() != 0) return;
                 barrier_init(full, 1);
                 barrier_arrive_expect(full, 256), copy_bulk(tile, p, 256, full);
                 barrier_wait(full, 0);
               });
}

// A source that changes, or is overwritten, while it is copied.
TEST(SimtBulkCheck, SourcesBelongToTheCopyUntilItIsWaitedFor) {
  expect_fault(Fault::kRace, {"write after read of x[0]", "a bulk copy", at_line(__LINE__ + 6), at_line(__LINE__ + 7)},
               [](float* x) {
                 GPU_SHARED(float, tile, [64]);
                 GPU_SHARED(Mbarrier, full, [1]);
                 make_barrier(full, 1);
                 if (thread_x() != 0) return;
                 barrier_arrive_expect(full, 256), copy_bulk(tile, x, 256, full);
                 x[0] = 1.0f;
                 barrier_wait(full, 0);
               });
  expect_fault(Fault::kRace,
               {"write after read of tile[0]", "a bulk copy", at_line(__LINE__ + 7), at_line(__LINE__ + 8)},
               [](float* x) {
                 GPU_SHARED(float, tile, [64]);
                 tile[thread_x()] = 1.0f;
                 fence_async();
                 block_sync();
                 if (thread_x() != 0) return;
                 store_bulk(x, tile, 256), store_bulk_commit();
                 tile[0] = 2.0f;
                 store_bulk_wait_read<0>();
               });
  // What was copied out can be read by its thread after the full wait alone.
  expect_fault(Fault::kUninitialized, {"x[0]", at_line(__LINE__ + 8)}, [](float* x) {
    GPU_SHARED(float, tile, [64]);
    tile[thread_x()] = 1.0f;
    fence_async();
    block_sync();
    if (thread_x() != 0) return;
    store_bulk(x, tile, 256), store_bulk_commit();
    store_bulk_wait_read<0>();
    const float early = x[0];
    store_bulk_wait<0>();
    x[1] = early;
  });
}

#endif

}  // namespace
}  // namespace pf

#endif
