#include "runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <time.h>

#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace {

using pf::ThreadPool;
using pf::Worker;

class ThreadPoolSizes : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(OneToFour, ThreadPoolSizes, ::testing::Values(1, 2, 3, 4));

TEST_P(ThreadPoolSizes, RunsTheBodyOnceOnEachThread) {
  ThreadPool pool(GetParam());
  std::vector<int> calls(static_cast<size_t>(GetParam()));
  for (int run = 0; run < 500; ++run) {
    pool.run([&](Worker& worker) {
      EXPECT_EQ(worker.num_threads(), GetParam());
      ++calls[static_cast<size_t>(worker.tid())];
    });
  }
  for (const int count : calls) EXPECT_EQ(count, 500);
}

TEST_P(ThreadPoolSizes, TheCallerIsThreadZero) {
  ThreadPool pool(GetParam());
  const auto caller = std::this_thread::get_id();
  pool.run([&](Worker& worker) { EXPECT_EQ(worker.tid() == 0, std::this_thread::get_id() == caller); });
}

// The processors that the calling thread may run on.
std::vector<int> usable_cores() {
  cpu_set_t set;
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

TEST(ThreadPool, ThreadsStayOnTheirCores) {
  const std::vector<int> usable = usable_cores();
  const std::vector<int> cores = {usable.back(), usable.front()};  // the same one where there is no other
  std::vector<std::vector<int>> seen(2);
  std::thread([&] {  // pinned for good, so not the thread of the other tests
    ThreadPool pool(2, cores);
    pool.run([&](Worker& worker) { seen[static_cast<size_t>(worker.tid())] = usable_cores(); });
    EXPECT_EQ(usable_cores(), std::vector<int>{cores[0]});
  })
      .join();
  EXPECT_EQ(seen[0], std::vector<int>{cores[0]});
  EXPECT_EQ(seen[1], std::vector<int>{cores[1]});
  EXPECT_EQ(usable_cores(), usable);
}

TEST(ThreadPool, CoresMustBeThereAndOneForEachThread) {
  const std::vector<int> usable = usable_cores();
  EXPECT_THROW(ThreadPool(2, {usable[0]}), std::invalid_argument);
  EXPECT_THROW(ThreadPool(2, {usable[0], CPU_SETSIZE}), std::system_error);
  EXPECT_THROW(ThreadPool(2, {usable[0], -1}), std::system_error);
  ThreadPool pool(1, {CPU_SETSIZE - 1});  // the caller is pinned when it calls
  if (usable.back() != CPU_SETSIZE - 1) {
    EXPECT_THROW(pool.run([](Worker&) {}), std::system_error);
  }
}

// Items write their places, and after finish() items see what all others wrote: without TSan finding a race.
TEST_P(ThreadPoolSizes, FinishMakesWritesVisible) {
  ThreadPool pool(GetParam());
  constexpr int64_t kPlaces = 6;
  std::vector<int64_t> places(kPlaces);
  for (int run = 0; run < 20; ++run) {
    pool.run([&](Worker& worker) {
      for (int64_t round = 0; round < 50; ++round) {
        worker.for_each(kPlaces, [&](int64_t i) { places[static_cast<size_t>(i)] = round; });
        worker.finish();
        worker.for_each(
            2, [&](int64_t) { EXPECT_EQ(std::accumulate(places.begin(), places.end(), int64_t{0}), round * kPlaces); });
        worker.finish();
      }
    });
  }
}

// A thread that sleeps holds nobody up, and does nothing twice when it comes back.
TEST(ThreadPool, OthersDoTheWorkOfAThreadThatSleeps) {
  ThreadPool pool(3);
  std::atomic<bool> over{false};
  std::atomic<int> items{0};
  pool.run([&](Worker& worker) {
    if (worker.tid() == 1) {
      for (int i = 0; i < 20000 && !over; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_TRUE(over) << "the others waited for this thread";
    }
    for (int phase = 0; phase < 100; ++phase) {
      worker.for_each(30, [&](int64_t) { ++items; });
      worker.finish();
      EXPECT_GE(items, 30 * (phase + 1));
    }
    over = true;
  });
  EXPECT_EQ(items, 3000);
}

TEST_P(ThreadPoolSizes, ForEachVisitsEveryIndexOnce) {
  ThreadPool pool(GetParam());
  for (const int64_t n : {0, 1, 2, 7, 64, 1000}) {
    for (const int64_t chunk : {1, 3, 64, 5000}) {
      std::vector<int> visits(static_cast<size_t>(n));
      pool.run(
          [&](Worker& worker) { worker.for_each(n, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; }, chunk); });
      for (const int count : visits) EXPECT_EQ(count, 1) << "n " << n << " chunk " << chunk;
    }
  }
}

// Phases follow each other without waiting, so that fast threads are several phases ahead of slow ones.
TEST_P(ThreadPoolSizes, ForEachPhasesDoNotMix) {
  ThreadPool pool(GetParam());
  constexpr int64_t kPhases = 200, kIndices = 5;
  std::vector<int> visits(kPhases * kIndices);
  pool.run([&](Worker& worker) {
    for (int64_t phase = 0; phase < kPhases; ++phase) {
      if (worker.tid() == phase % worker.num_threads() && phase % 20 == 0) std::this_thread::yield();
      worker.for_each(kIndices, [&](int64_t i) { ++visits[static_cast<size_t>(phase * kIndices + i)]; });
    }
  });
  for (const int count : visits) EXPECT_EQ(count, 1);
}

TEST_P(ThreadPoolSizes, AnExceptionReleasesTheOthersAndIsRethrown) {
  ThreadPool pool(GetParam());
  for (int guilty = 0; guilty < GetParam(); ++guilty) {
    const auto failing = [&](Worker& worker) {
      worker.for_each(100, [](int64_t) {});
      worker.finish();
      worker.for_each(GetParam(), [&](int64_t i) {
        if (i == guilty) throw std::runtime_error("item " + std::to_string(guilty));
      });
      worker.finish();
      ADD_FAILURE() << "a phase was over although an item of it had failed";
    };
    try {
      pool.run(failing);
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "item " + std::to_string(guilty));
    }
    std::atomic<int> after{0};  // the pool is usable again
    pool.run([&](Worker& worker) {
      worker.for_each(7, [&](int64_t) { ++after; });
      worker.finish();
      EXPECT_EQ(after, 7);
    });
  }
}

TEST_P(ThreadPoolSizes, ScratchIsPrivateAlignedAndKept) {
  ThreadPool pool(GetParam());
  pool.run([&](Worker& worker) {
    for (const size_t bytes : {size_t{100}, size_t{10000}, size_t{200}}) {
      char* memory = static_cast<char*>(worker.scratch(bytes));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
      std::memset(memory, worker.tid(), bytes);
      std::this_thread::yield();
      EXPECT_EQ(memory[0], worker.tid());
      EXPECT_EQ(memory[bytes - 1], worker.tid());
    }
  });
}

TEST_P(ThreadPoolSizes, SharedMemoryIsTheSameInEveryThread) {
  ThreadPool pool(GetParam());
  const auto threads = static_cast<size_t>(GetParam());
  for (const size_t bytes : {size_t{64}, size_t{1} << 16, size_t{128}, size_t{1} << 20}) {
    std::vector<void*> seen(threads);
    pool.run([&](Worker& worker) { seen[static_cast<size_t>(worker.tid())] = worker.shared(bytes); });
    for (void* pointer : seen) {
      EXPECT_EQ(pointer, seen[0]);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(pointer) % 64, 0u);
    }
    std::memset(seen[0], 1, bytes);
  }
}

TEST(ThreadPool, RunsFromSeveralThreadsTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int> inside{0}, most{0}, total{0};
  const auto caller = [&] {
    for (int run = 0; run < 100; ++run) {
      pool.run([&](Worker& worker) {
        if (worker.tid() == 0) {
          const int now = ++inside;
          int seen = most.load();
          while (now > seen && !most.compare_exchange_weak(seen, now)) {
          }
        }
        std::this_thread::yield();
        ++total;
        if (worker.tid() == 0) --inside;
      });
    }
  };
  std::thread a(caller), b(caller);
  a.join();
  b.join();
  EXPECT_EQ(most, 1);
  EXPECT_EQ(total, 400);
}

TEST(ThreadPool, RefusesToHaveNoThreads) { EXPECT_THROW(ThreadPool(0), std::invalid_argument); }

double process_cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

TEST(ThreadPool, IdleThreadsSleep) {
  ThreadPool pool(4);
  pool.run([](Worker& worker) {
    worker.for_each(4, [](int64_t) {});
    worker.finish();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // past the spinning
  const double before = process_cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(process_cpu_seconds() - before, 0.003);
}

#if defined(__x86_64__)
// A caller that flushes denormals must not make its tiles differ from those of the other threads.
TEST(ThreadPool, BodiesRunWithDefaultFloatMode) {
  ThreadPool pool(2);
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);  // flush to zero, denormals are zero
  std::atomic<int> flushed{0};
  pool.run([&](Worker&) {
    volatile float tiny = 1e-38f;
    const volatile float half = tiny * 0.25f;
    if (half == 0.0f) ++flushed;
  });
  EXPECT_EQ(__builtin_ia32_stmxcsr() & 0x8040u, 0x8040u);
  __builtin_ia32_ldmxcsr(before);
  EXPECT_EQ(flushed, 0);
}
#endif

}  // namespace
