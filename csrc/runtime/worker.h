// What a CPU op sees of the thread pool. An op is SPMD: every thread of the pool calls it with its own Worker and the
// same arguments; the pool puts a barrier between ops, an op puts `barrier()` between its own phases.
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

  // Waits until all threads have arrived; everything written before is visible after.
  void barrier();

  // Calls fn(i) for every i in [0, n), each exactly once over all threads. A thread first works off its own share, an
  // unbroken range that is the same in every run, so that it streams through memory and finds again what its caches
  // hold; then it helps the others, a chunk at a time. No barrier at the end. All threads must make the same sequence
  // of for_each and barrier calls.
  template <class Fn>
  void for_each(int64_t n, Fn&& fn, int64_t chunk = 1) {
    const int64_t phase = next_phase_++;
    int helped = 0;
    for (int64_t begin, end; claim(phase, n, chunk, &helped, &begin, &end);) {
      for (int64_t i = begin; i < end; ++i) fn(i);
    }
  }

  // Memory of this thread, 64-byte aligned, valid until the op returns (one block a call site: calling again with a
  // larger size may move it and loses its content).
  void* scratch(size_t bytes);

  // Memory shared by all threads of the op, 64-byte aligned, same pointer in every thread, valid until the op returns.
  // All threads must call it with the same size, at most once an op; it contains a barrier when it has to grow.
  void* shared(size_t bytes);

 private:
  bool claim(int64_t phase, int64_t n, int64_t chunk, int* helped, int64_t* begin, int64_t* end);
  ThreadPool& pool_;
  int tid_;
  int64_t next_phase_ = 0;
};

}  // namespace pf
