#include "timing.h"

#include <chrono>

namespace pf::gpu {

#ifdef PF_API  // CUDA's, or HIP's

struct Timing::Impl {
  explicit Impl(Stream of) : stream(of) {
    check(PF_API(EventCreate)(&first), "an event");
    check(PF_API(EventCreate)(&last), "an event");
  }
  ~Impl() {
    if (first != nullptr) static_cast<void>(PF_API(EventDestroy)(first));
    if (last != nullptr) static_cast<void>(PF_API(EventDestroy)(last));
  }
  Stream stream;
  PF_API(Event_t) first = nullptr, last = nullptr;
};

void Timing::begin() const { check(PF_API(EventRecord)(impl_->first, impl_->stream), "an event"); }

double Timing::end() const {
  float passed = 0;
  check(PF_API(EventRecord)(impl_->last, impl_->stream), "an event");
  check(PF_API(EventSynchronize)(impl_->last), "waiting for an event");
  check(PF_API(EventElapsedTime)(&passed, impl_->first, impl_->last), "the time between events");
  return passed;
}

#else  // the emulator runs what is launched at once

struct Timing::Impl {
  explicit Impl(Stream) {}
  std::chrono::steady_clock::time_point first;
};

void Timing::begin() const { impl_->first = std::chrono::steady_clock::now(); }

double Timing::end() const {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - impl_->first).count();
}

#endif

Timing::Timing(Stream stream) : impl_(std::make_unique<Impl>(stream)) {}
Timing::~Timing() = default;

}  // namespace pf::gpu
