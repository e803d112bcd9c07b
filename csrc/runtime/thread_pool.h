// A persistent pool of threads that all execute the same body (SPMD).
//
//   pool.run([&](Worker& w) {
//     w.for_each(tiles, [&](int64_t i) { ... });   // tiles shared out, and claimed by who is free
//     w.finish();                                  // all tiles done, results visible
//     ...
//   });
//
// The caller is thread 0. Waiting threads spin for some microseconds, since the next op is usually that near, and then
// sleep in the kernel, so that an idle pool costs nothing. run() may be called from any thread; calls take turns.
#pragma once
#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "worker.h"

namespace pf {

class ThreadPool {
 public:
  // With `cores`, one for each thread, thread i stays on processor cores[i]; whoever calls run() is moved to cores[0]
  // and stays there. std::invalid_argument unless threads >= 1 and cores are none or as many; std::system_error for a
  // processor that this process may not use.
  explicit ThreadPool(int threads, std::vector<int> cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls body once on each thread and returns when all are done. When a body throws, the others stop waiting for its
  // items, and the first exception is rethrown here; the pool stays usable. Must not be nested.
  void run(const std::function<void(Worker&)>& body);

 private:
  friend class Worker;
  struct Block {  // memory that only grows
    void* data = nullptr;
    size_t bytes = 0;
    void* reserve(size_t wanted);
    ~Block();
  };
  struct Cancelled {};  // thrown out of finish() when another thread's body has thrown

  void thread_main(int tid);
  void run_body(int tid);
  void finish(uint32_t goal);
  void* shared(size_t bytes);
  void stop();
  void pin_caller() const;
  template <class Done>
  void wait_for(std::atomic<uint32_t>& word, Done&& done);

  const int size_;
  const std::vector<int> cores_;
  const int spins_;
  std::mutex turn_;  // held for the whole of run()
  const std::function<void(Worker&)>* body_ = nullptr;
  std::vector<std::thread> threads_;
  std::vector<Block> scratch_;
  std::mutex shared_mutex_;
  std::atomic<Block*> shared_{nullptr};                // the last of shared_blocks_
  std::vector<std::unique_ptr<Block>> shared_blocks_;  // late threads may hold a smaller one until the run ends
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::atomic<bool> cancelled_{false};
  bool stopping_ = false;

  // Words that threads wait for lie on lines of their own.
  alignas(64) std::atomic<uint32_t> run_number_{0};  // bumped to start a run, or to stop
  alignas(64) std::atomic<uint32_t> running_{0};     // threads other than the caller still in the body
  alignas(64) std::atomic<uint32_t> done_{0};        // items of this run, modulo 2^32
  // The share of each thread in the current for_each: phase in the upper bits, how much of the share is claimed in the
  // lower kPositionBits.
  struct alignas(64) Claims {
    std::atomic<uint64_t> word{0};
  };
  std::vector<Claims> claims_;
};

}  // namespace pf
