// How kernels are tested on the emulator. One source is built twice: `fast` runs a case in four orders with two seeds
// each; `check` (PF_SIMT_CHECK) runs it with every access tracked, and then each of its mutants, which must be noticed.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "gpu/gpu.h"

namespace pf {

#if PF_SIMT_CHECK
constexpr bool kCheckBuild = true;
#else
constexpr bool kCheckBuild = false;
#endif

// An array of the emulated device.
template <class T>
class Array {
 public:
  // Uninitialized, as outputs should be.
  Array(simt::Device& device, size_t size, const char* name)
      : device_(device), data_(static_cast<T*>(device.allocate(size * sizeof(T), name))), size_(size) {}
  Array(simt::Device& device, const std::vector<T>& values, const char* name) : Array(device, values.size(), name) {
    device.write(data_, values.data(), values.size() * sizeof(T));
  }
  ~Array() { device_.release(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* get() const { return data_; }
  size_t size() const { return size_; }
  std::vector<T> values() const {
    std::vector<T> copy(size_);
    device_.read(copy.data(), data_, size_ * sizeof(T));
    return copy;
  }

 private:
  simt::Device& device_;
  T* data_;
  size_t size_;
};

inline std::vector<float> normal_values(size_t n, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = distribution(generator);
  return values;
}

template <class T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> result(values.size());
  std::ranges::transform(values, result.begin(), [](float v) { return gpu::from_float<T>(v); });
  return result;
}

template <class T>
std::vector<float> floats(const std::vector<T>& values) {
  std::vector<float> result(values.size());
  std::ranges::transform(values, result.begin(), [](T v) { return gpu::to_float(v); });
  return result;
}

// "" if all values are within `absolute` + `relative` * |wanted| of what is wanted, else the first that is not.
inline std::string difference(const std::vector<float>& values, const std::vector<double>& wanted, double absolute,
                              double relative) {
  if (values.size() != wanted.size()) return "another size";
  for (size_t i = 0; i < values.size(); ++i) {
    const double allowed = absolute + relative * std::abs(wanted[i]);
    if (!(std::abs(values[i] - wanted[i]) <= allowed)) {  // NaN is different
      return "[" + std::to_string(i) + "] is " + std::to_string(values[i]) + ", not " + std::to_string(wanted[i]);
    }
  }
  return "";
}

// What rounding to T costs, relative to the value.
template <class T>
constexpr double kRounding = 4e-6;
template <>
inline constexpr double kRounding<gpu::f16> = 0x1p-10;
template <>
inline constexpr double kRounding<gpu::bf16> = 0x1p-7;

// Runs kernels once on the device and says how the result differs from its reference, "" if it does not.
using Case = std::function<std::string(simt::Device&)>;

inline std::string run_case(const Case& run, simt::Device& device) {
  try {
    return run(device);
  } catch (const simt::Error& error) {
    return error.what();
  }
}

// The case is right in every schedule, or, in the check build, no fault is found in it.
inline void expect_right(const Case& run) {
  if (kCheckBuild) {
    simt::Device device;
    EXPECT_EQ(run_case(run, device), "");
    return;
  }
  using simt::Order;
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom, Order::kWarpAhead}) {
    for (const uint64_t seed : {1, 2}) {
      simt::Device device;
      device.options.order = order;
      device.options.seed = seed;
      EXPECT_EQ(run_case(run, device), "") << "order " << static_cast<int>(order) << ", seed " << seed;
    }
  }
}

// The mutants that a kernel must have: how many of each kind, and its planted bugs by name.
struct Mutants {
  int block_syncs = 0, warp_syncs = 0, fences = 0, async_waits = 0;
  int arrivals = 0, barrier_waits = 0, proxy_fences = 0;  // of mbarriers and bulk copies
  std::vector<std::string> plants = {};                   // in the order of the alphabet
};

// Each mutant of the case is noticed, by a report or by its result; only in the check build.
inline void expect_mutants_caught(const Case& run, const Mutants& wanted) {
  if (!kCheckBuild) return;
  simt::Device clean;
  ASSERT_EQ(run_case(run, clean), "");
  Mutants found;
  for (const simt::SyncSite& site : clean.sites()) {
    simt::Device device;
    device.options.drop = site;
    EXPECT_NE(run_case(run, device), "") << "nobody notices without " << site.at;
    switch (site.kind) {
      case simt::SyncSite::kBlockSync:
        ++found.block_syncs;
        break;
      case simt::SyncSite::kWarpSync:
        ++found.warp_syncs;
        break;
      case simt::SyncSite::kFence:
        ++found.fences;
        break;
      case simt::SyncSite::kAsyncWait:
        ++found.async_waits;
        break;
      case simt::SyncSite::kBarrierArrive:
        ++found.arrivals;
        break;
      case simt::SyncSite::kBarrierWait:
        ++found.barrier_waits;
        break;
      case simt::SyncSite::kProxyFence:
        ++found.proxy_fences;
        break;
      case simt::SyncSite::kPlant:
        found.plants.push_back(site.at);
        break;
    }
  }
  std::ranges::sort(found.plants);
  EXPECT_EQ(found.block_syncs, wanted.block_syncs);
  EXPECT_EQ(found.warp_syncs, wanted.warp_syncs);
  EXPECT_EQ(found.fences, wanted.fences);
  EXPECT_EQ(found.async_waits, wanted.async_waits);
  EXPECT_EQ(found.arrivals, wanted.arrivals);
  EXPECT_EQ(found.barrier_waits, wanted.barrier_waits);
  EXPECT_EQ(found.proxy_fences, wanted.proxy_fences);
  EXPECT_EQ(found.plants, wanted.plants);
}

// Accesses of the case cost the least they can, but for those of `worse_places` lines, which cost up to `factor` times
// that.
inline void expect_full_accesses(const Case& run, int worse_places = 0, double factor = 1.0) {
  if (!kCheckBuild) return;
  simt::Device device;
  device.options.count = true;
  ASSERT_EQ(run_case(run, device), "");
  std::string worse;
  int found = 0;
  for (const simt::AccessCount& count : device.take_counts(1.0)) {
    ++found;
    worse += std::string(count.shared ? "shared " : "global ") + (count.write ? "write" : "read") + " of " +
             std::to_string(count.bytes) + " bytes at " + count.at + ": " + std::to_string(count.factor()) + "\n";
    EXPECT_LE(count.factor(), factor) << worse;
  }
  EXPECT_EQ(found, worse_places) << worse;
}

}  // namespace pf
