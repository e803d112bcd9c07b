// A gate between the thread that fills a step's grammar masks and the step that reads them. Used once.
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>

namespace pf {

class MaskGate {
 public:
  // The masks are complete.
  void open() { decide(State::open, ""); }

  // The masks could not be filled: the step fails with this text.
  void fail(const std::string& text) { decide(State::failed, text); }

  // Blocks until one of the two was called; false after fail().
  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto start = std::chrono::steady_clock::now();
    decided_.wait(lock, [this] { return state_ != State::closed; });
    waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return state_ == State::open;
  }

  // Whether wait() would return at once.
  bool decided() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return state_ != State::closed;
  }

  // Seconds that all calls of wait() took: by so much the masks came too late.
  double waited() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return waited_;
  }

  std::string failure() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return failure_;
  }

  // wait() as PfStep.wait_masks takes it.
  static int wait_callback(void* gate) { return static_cast<MaskGate*>(gate)->wait() ? 0 : 1; }
  static int ready_callback(void* gate) { return static_cast<MaskGate*>(gate)->decided() ? 1 : 0; }

 private:
  enum class State { closed, open, failed };

  void decide(State state, const std::string& text) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (state_ != State::closed) return;  // the first decision stands
      state_ = state;
      failure_ = text;
    }
    decided_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable decided_;
  State state_ = State::closed;
  std::string failure_;
  double waited_ = 0.0;
};

}  // namespace pf
