#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <cstdlib>
#include <new>
#include <system_error>
#include <utility>

#include "errors.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pf {
namespace {

// About 40 µs of `pause` before sleeping: longer than most waits between ops, shorter than a scheduler's time slice.
// With more threads than cores the one waited for may need this very core, so a waiter yields it soon.
constexpr int kSpins = 2000;
constexpr int kSpinsOversubscribed = 20;
constexpr int kYields = 4;

// A claim counter holds a share of 2^40 indices and 2^24 phases a run.
constexpr int kPositionBits = 40;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Counts of items wrap around.
bool reached(uint32_t done, uint32_t goal) { return static_cast<int32_t>(done - goal) >= 0; }

// Rounding and denormal handling of the calling thread set to IEEE defaults while a body runs: the caller belongs to an
// application that may have changed them, and results must not depend on which thread computes a tile.
class DefaultFloatMode {
 public:
#if defined(__x86_64__)
  DefaultFloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~DefaultFloatMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
  DefaultFloatMode() {}
#endif
};

// Throws std::system_error for a processor that this process may not use.
void pin(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &set);
  const int code = pthread_setaffinity_np(thread, sizeof set, &set);
  if (code != 0) throw std::system_error(code, std::generic_category(), message("pinning a thread to core ", core));
}

}  // namespace

ThreadPool::ThreadPool(int threads, std::vector<int> cores)
    : size_(threads),
      cores_(std::move(cores)),
      spins_(threads > static_cast<int>(std::thread::hardware_concurrency()) ? kSpinsOversubscribed : kSpins) {
  if (threads < 1) refuse("a thread pool needs at least one thread, not ", threads);
  if (!cores_.empty() && cores_.size() != static_cast<size_t>(threads)) {
    refuse(cores_.size(), " cores to pin ", threads, " threads to: give one for each");
  }
  scratch_ = std::vector<Block>(static_cast<size_t>(threads));
  claims_ = std::vector<Claims>(static_cast<size_t>(threads));
  threads_.reserve(static_cast<size_t>(threads) - 1);
  for (int tid = 1; tid < threads; ++tid) threads_.emplace_back([this, tid] { thread_main(tid); });
  try {
    for (size_t i = 1; i < cores_.size(); ++i) pin(threads_[i - 1].native_handle(), cores_[i]);
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_ = true;
  run_number_.fetch_add(1, std::memory_order_release);
  run_number_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::pin_caller() const {
  thread_local int pinned = -1;
  if (cores_.empty() || pinned == cores_[0]) return;
  pin(pthread_self(), cores_[0]);
  pinned = cores_[0];
}

void ThreadPool::run(const std::function<void(Worker&)>& body) {
  const std::lock_guard<std::mutex> lock(turn_);
  pin_caller();
  body_ = &body;
  failure_ = nullptr;
  cancelled_.store(false, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  for (Claims& claims : claims_) claims.word.store(0, std::memory_order_relaxed);
  running_.store(static_cast<uint32_t>(size_ - 1), std::memory_order_relaxed);
  run_number_.fetch_add(1, std::memory_order_release);  // publishes all of the above
  run_number_.notify_all();

  run_body(0);
  wait_for(running_, [this] { return running_.load(std::memory_order_acquire) == 0; });
  body_ = nullptr;
  if (shared_blocks_.size() > 1) shared_blocks_.erase(shared_blocks_.begin(), shared_blocks_.end() - 1);
  if (failure_) std::rethrow_exception(failure_);
}

void ThreadPool::thread_main(int tid) {
  for (uint32_t seen = 0;; ++seen) {
    wait_for(run_number_, [&] { return run_number_.load(std::memory_order_acquire) != seen; });
    if (stopping_) return;
    run_body(tid);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_all();
  }
}

void ThreadPool::run_body(int tid) {
  const DefaultFloatMode mode;
  Worker worker(*this, tid);
  try {
    (*body_)(worker);
  } catch (const Cancelled&) {
    // Another thread failed; its exception is the one to report.
  } catch (...) {
    {
      const std::lock_guard<std::mutex> lock(failure_mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    cancelled_.store(true, std::memory_order_release);
    done_.fetch_add(1, std::memory_order_release);  // a changed word wakes who waits for it
    done_.notify_all();
  }
}

// Returns once done() holds; whoever makes it hold must also change and notify `word`.
template <class Done>
void ThreadPool::wait_for(std::atomic<uint32_t>& word, Done&& done) {
  for (int i = 0; i < spins_; ++i) {
    if (done()) return;
    pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (done()) return;
    std::this_thread::yield();
  }
  for (;;) {
    const uint32_t seen = word.load(std::memory_order_acquire);
    if (done()) return;
    word.wait(seen, std::memory_order_acquire);
  }
}

void ThreadPool::finish(uint32_t goal) {
  const auto cancelled = [this] { return cancelled_.load(std::memory_order_acquire); };
  wait_for(done_, [&] { return reached(done_.load(std::memory_order_acquire), goal) || cancelled(); });
  if (cancelled()) throw Cancelled{};
}

void* ThreadPool::shared(size_t bytes) {
  Block* block = shared_.load(std::memory_order_acquire);
  if (block != nullptr && block->bytes >= bytes) return block->data;
  const std::lock_guard<std::mutex> lock(shared_mutex_);
  block = shared_.load(std::memory_order_relaxed);
  if (block == nullptr || block->bytes < bytes) {
    shared_blocks_.push_back(std::make_unique<Block>());
    block = shared_blocks_.back().get();
    block->reserve(bytes);
    shared_.store(block, std::memory_order_release);
  }
  return block->data;
}

void* ThreadPool::Block::reserve(size_t wanted) {
  if (wanted <= bytes) return data;
  std::free(data);
  bytes = 0;
  const size_t rounded = (wanted + 4095) / 4096 * 4096;
  data = std::aligned_alloc(4096, rounded);
  if (data == nullptr) throw std::bad_alloc();
  bytes = rounded;
  return data;
}

ThreadPool::Block::~Block() { std::free(data); }

// --- Worker ----------------------------------------------------------------------------------------------------------

int Worker::num_threads() const { return pool_.size(); }

void Worker::finish() { pool_.finish(goal_); }

// Wakes whoever may sleep in finish(): the last item of all that is waited for is done. A thread that is a phase behind
// the waiting ones counts less than they, and so wakes them too.
void Worker::report(uint32_t items) {
  if (reached(pool_.done_.fetch_add(items, std::memory_order_acq_rel) + items, goal_)) pool_.done_.notify_all();
}

// The counters serve all phases: a thread that has begun phase p found every share of the phases before it claimed, so
// a straggler that finds a later phase in a counter has nothing left to do. `helped` counts the shares, from the
// thread's own on, that were found claimed in this phase.
bool Worker::claim(int64_t phase, int64_t n, int64_t chunk, int* helped, int64_t* begin, int64_t* end) {
  const int threads = pool_.size();
  const uint64_t start = static_cast<uint64_t>(phase) << kPositionBits;
  for (; *helped < threads; ++*helped) {
    const int owner = (tid_ + *helped) % threads;
    const int64_t first = n * owner / threads, size = n * (owner + 1) / threads - first;
    std::atomic<uint64_t>& claims = pool_.claims_[static_cast<size_t>(owner)].word;
    uint64_t seen = claims.load(std::memory_order_relaxed);
    for (;;) {
      const uint64_t current = seen >> kPositionBits;
      if (current > static_cast<uint64_t>(phase)) return false;
      const uint64_t at = current == static_cast<uint64_t>(phase) ? seen : start;
      const auto taken = static_cast<int64_t>(at - start);
      if (taken >= size) break;
      if (claims.compare_exchange_weak(seen, at + static_cast<uint64_t>(chunk), std::memory_order_relaxed)) {
        *begin = first + taken;
        *end = first + (taken + chunk < size ? taken + chunk : size);
        return true;
      }
    }
  }
  return false;
}

void* Worker::scratch(size_t bytes) { return pool_.scratch_[static_cast<size_t>(tid_)].reserve(bytes); }

void* Worker::shared(size_t bytes) { return pool_.shared(bytes); }

}  // namespace pf
