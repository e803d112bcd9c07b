// What a CPU op sees of the thread pool. An op is SPMD: every thread of the pool calls it with its own Worker and the
// same arguments and makes the same calls of for_each and finish.
//
// Threads wait for items, never for each other: a phase is over when its items are done, by whoever. A thread that the
// system lets sleep meanwhile finds later that nothing is left for it, so on a busy machine one of two threads gets on
// alone. Hence the rule for ops: what another thread may have written is read, and what another may read is written,
// inside of items only. Between the phases a thread may be late, and shared memory may belong to a later op already.
//
// Determinism: a tile computes its outputs completely (all of K, all of a split) and tiles never share an output, so
// results do not depend on the number of threads or on who claims which tile.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pf {

class ThreadPool;

class Worker {
 public:
  Worker(ThreadPool& pool, int tid) : pool_(pool), tid_(tid) {}
  int tid() const { return tid_; }
  int num_threads() const;

  // Returns when all items of all calls of for_each up to here are done, by whoever; what they wrote is visible then.
  void finish();

  // Calls fn(i) for every i in [0, n), each exactly once over all threads. A thread first works off its own share, an
  // unbroken range that is the same in every run, so that it streams through memory and finds again what its caches
  // hold; then it helps the others, a chunk at a time. Does not wait for what others have begun. n is below 2^31.
  template <class Fn>
  void for_each(int64_t n, Fn&& fn, int64_t chunk = 1) {
    const int64_t phase = next_phase_++;
    int helped = 0;
    uint32_t done = 0;
    for (int64_t begin, end; claim(phase, n, chunk, &helped, &begin, &end);
         done += static_cast<uint32_t>(end - begin)) {
      for (int64_t i = begin; i < end; ++i) fn(i);
    }
    goal_ += static_cast<uint32_t>(n);
    if (done != 0) report(done);
  }

  // Memory of this thread, 64-byte aligned, valid until the op returns (one block a call site: calling again with a
  // larger size may move it and loses its content).
  void* scratch(size_t bytes);

  // Memory shared by all threads of the op, 64-byte aligned, same pointer in every thread, valid until the op returns.
  // All threads must call it with the same size, at most once an op.
  void* shared(size_t bytes);

 private:
  bool claim(int64_t phase, int64_t n, int64_t chunk, int* helped, int64_t* begin, int64_t* end);
  void report(uint32_t items);
  ThreadPool& pool_;
  int tid_;
  uint32_t goal_ = 0;  // items of all phases so far, modulo 2^32
  int64_t next_phase_ = 0;
};

}  // namespace pf
