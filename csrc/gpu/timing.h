// How long launches take on a device.
//
//   const Timing timing(stream);
//   double ms = timing.milliseconds([&] { launch_something(stream); });
#pragma once
#include <algorithm>
#include <limits>
#include <memory>

#include "gpu.h"

namespace pf::gpu {

class Timing {
 public:
  // Of the stream's device, which is the calling thread's.
  explicit Timing(Stream stream);
  ~Timing();
  Timing(const Timing&) = delete;
  Timing& operator=(const Timing&) = delete;

  // Milliseconds of one launch: the least of a few rounds, since whatever else goes on only adds to them. A round is
  // more than one launch, so that most of what the host does for it is hidden. Waits.
  template <class Launch>
  double milliseconds(const Launch& launch) const {
    constexpr int kRounds = 4, kLaunches = 2;
    launch();  // loads the kernel
    double least = std::numeric_limits<double>::infinity();
    for (int round = 0; round < kRounds; ++round) {
      begin();
      for (int i = 0; i < kLaunches; ++i) launch();
      least = std::min(least, end() / kLaunches);
    }
    return least;
  }

 private:
  struct Impl;
  void begin() const;
  double end() const;  // milliseconds since begin()

  std::unique_ptr<Impl> impl_;
};

}  // namespace pf::gpu
