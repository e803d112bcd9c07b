// What this machine can do at most, measured: int8 arithmetic in registers, and reading from memory.
#pragma once

#include <immintrin.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace probe {

inline double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs work(thread) on as many threads, the caller's among them.
inline double seconds_on(int threads, const std::function<void(int)>& work) {
  return seconds([&] {
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
    for (auto& other : others) other.join();
  });
}

constexpr int kSteps = 1 << 19;
constexpr int kChains = 8;

__attribute__((target("avx2"))) inline void arithmetic_loop(volatile short* sink) {
  const __m256i w = _mm256_set1_epi8(3);
  __m256i a = _mm256_set1_epi8(5), sums[kChains];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  for (int i = 0; i < kSteps; ++i) {
    __asm__ volatile("" : "+x"(a));  // or the product would be hoisted
    for (auto& sum : sums) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, a));
  }
  __m256i total = sums[0];
  for (int c = 1; c < kChains; ++c) total = _mm256_add_epi16(total, sums[c]);
  *sink = static_cast<short>(_mm256_extract_epi16(total, 0));
}

// GOP/s of vpmaddubsw + vpaddw: the arithmetic that four-bit weights need and nothing else.
inline double int8_gops(int threads) {
  const double time = seconds_on(threads, [](int) {
    volatile short sink;
    arithmetic_loop(&sink);
  });
  return 2.0 * 32 * kChains * kSteps * threads / time / 1e9;
}

__attribute__((target("avx2"))) inline void read_all(const uint8_t* data, size_t bytes, volatile long long* sink) {
  __m256i sums[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    for (int c = 0; c < 4; ++c) {
      const auto* part = reinterpret_cast<const __m256i*>(data + i + 32 * static_cast<size_t>(c));
      sums[c] = _mm256_xor_si256(sums[c], _mm256_load_si256(part));
    }
  }
  const __m256i total = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  *sink = _mm256_extract_epi64(total, 0);
}

// GB/s of reading memory that no cache holds, each thread its own part of `bytes`, a multiple of 128 a thread.
inline double read_gbps(const uint8_t* data, size_t bytes, int threads) {
  const size_t part = bytes / static_cast<size_t>(threads) / 128 * 128;
  const double time = seconds_on(threads, [&](int t) {
    volatile long long sink;
    read_all(data + static_cast<size_t>(t) * part, part, &sink);
  });
  return static_cast<double>(part) * threads / time / 1e9;
}

}  // namespace probe
