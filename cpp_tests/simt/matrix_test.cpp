// Tensor-core tiles on the emulator: the layouts of the fragments, and a small product staged through shared memory.
#include "harness.h"

#if GPU_HAS_MMA

namespace pf {
namespace {

using gpu::bf16;
using gpu::Dim3;
using gpu::e4m3;
using gpu::f16;
using gpu::lane_id;
using simt::Device;

// One warp gives its fragments by hand, element by element, as PTX numbers them.
template <class T, class D>
GPU_KERNEL(32)
void multiply_tile(const T* a, const T* b, D* d) {
  constexpr int kE = 4 / static_cast<int>(sizeof(T)), kK = 8 * kE;
  const int g = lane_id() / 4, q = lane_id() % 4;
  uint32_t fa[4], fb[2];
  D fd[4];
  for (int r = 0; r < 4; ++r) memcpy(&fa[r], &a[(g + 8 * (r % 2)) * kK + q * kE + 4 * kE * (r / 2)], 4);
  for (int r = 0; r < 2; ++r) memcpy(&fb[r], &b[g * kK + q * kE + 4 * kE * r], 4);
  for (int i = 0; i < 4; ++i) fd[i] = d[(g + 8 * (i / 2)) * 8 + 2 * q + i % 2];
  gpu::mma<T>(fd, fa, fb);
  for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * q + i % 2] = fd[i];
}

float value_of(int8_t v) { return v; }
template <class T>
float value_of(T v) {
  return gpu::to_float(v);
}

template <class T, class D>
std::string run_tile(Device& device, std::vector<T> a, std::vector<T> b) {
  const size_t k = a.size() / 16;
  std::vector<D> start(16 * 8);
  for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<D>(i);
  const Array<T> da(device, a, "a"), db(device, b, "b");
  const Array<D> d(device, start, "d");
  GPU_LAUNCH((multiply_tile<T, D>), Dim3{1}, 32, 0, &device, da.get(), db.get(), d.get());
  std::vector<float> values;
  std::vector<double> wanted;
  for (size_t i = 0; i < start.size(); ++i) {
    double sum = static_cast<double>(start[i]);
    for (size_t j = 0; j < k; ++j) sum += double{value_of(a[i / 8 * k + j])} * value_of(b[i % 8 * k + j]);
    wanted.push_back(sum);
    values.push_back(static_cast<float>(d.values()[i]));
  }
  return difference(values, wanted, 1e-4, 1e-6);
}

TEST(SimtMatrix, TilesOfEveryType) {
  const std::vector<float> a = normal_values(16 * 32, 1), b = normal_values(8 * 32, 2);
  const auto head = [](const std::vector<float>& v, size_t n) {
    return std::vector<float>(v.begin(), v.begin() + static_cast<long>(n));
  };
  expect_right(
      [&](Device& d) { return run_tile<f16, float>(d, converted<f16>(head(a, 256)), converted<f16>(head(b, 128))); });
  expect_right([&](Device& d) {
    return run_tile<bf16, float>(d, converted<bf16>(head(a, 256)), converted<bf16>(head(b, 128)));
  });
  expect_right([&](Device& d) { return run_tile<e4m3, float>(d, converted<e4m3>(a), converted<e4m3>(b)); });
  std::vector<int8_t> ia, ib;
  for (const float v : a) ia.push_back(static_cast<int8_t>(40 * v));
  for (const float v : b) ib.push_back(static_cast<int8_t>(-40 * v));
  expect_right([&](Device& d) { return run_tile<int8_t, int32_t>(d, ia, ib); });
}

// d[32][16] = a[32][K] w[16][K]^T, or a[32][K] w[K][16], with two stages of asynchronous copies; rows are padded so
// that ldmatrix meets no bank twice.
template <bool kTransposed, int kPad>
GPU_KERNEL(64)
void product(const bf16* a, const bf16* w, float* d, int k) {
  constexpr int kBlock = 32, kColumns = kTransposed ? 16 : kBlock, kRows = kTransposed ? kBlock : 16;
  GPU_SHARED(bf16, sa, [2][32][kBlock + kPad]);
  GPU_SHARED(bf16, sw, [2][kRows][kColumns + kPad]);
  const int t = static_cast<int>(gpu::thread_x()), lane = lane_id(), warp = gpu::warp_id();
  const auto stage = [&](int s, int k0) {
    for (int c = t; c < 32 * kBlock / 8; c += 64) {
      const int row = c / 4, column = c % 4 * 8;
      gpu::copy_async<16>(&sa[s][row][column], a + row * k + k0 + column);
    }
    for (int c = t; c < 16 * kBlock / 8; c += 64) {
      const int row = c / (kColumns / 8), column = c % (kColumns / 8) * 8;
      gpu::copy_async<16>(&sw[s][row][column], kTransposed ? w + (k0 + row) * 16 + column : w + row * k + k0 + column);
    }
    gpu::copy_async_commit();
  };
  float acc[2][4] = {};
  stage(0, 0);
  for (int k0 = 0, s = 0; k0 < k; k0 += kBlock, s ^= 1) {
    if (k0 + kBlock < k) {
      stage(s ^ 1, k0 + kBlock);
      gpu::copy_async_wait<1>();
    } else {
      gpu::copy_async_wait<0>();
    }
    gpu::block_sync();
    for (int kk = 0; kk < kBlock; kk += 16) {
      uint32_t fa[4], fb[4];
      gpu::load_matrix(fa, &sa[s][16 * warp + lane % 16][kk + lane / 16 * 8]);
      if (kTransposed) {
        gpu::load_matrix_transposed(fb, &sw[s][kk + lane % 16][lane / 16 * 8]);
      } else {
        gpu::load_matrix(fb, &sw[s][lane / 16 * 8 + lane % 8][kk + lane / 8 % 2 * 8]);
      }
      for (int n = 0; n < 2; ++n) {
        const uint32_t half[2] = {fb[2 * n], fb[2 * n + 1]};
        gpu::mma<bf16>(acc[n], fa, half);
      }
    }
    gpu::block_sync();
  }
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 4; ++i) {
      const int q = GPU_PLANTED("fragment") ? lane / 8 : lane % 4, g = GPU_PLANTED("fragment") ? lane % 8 : lane / 4;
      d[(16 * warp + g + 8 * (i / 2)) * 16 + 8 * n + 2 * q + i % 2] = acc[n][i];
    }
  }
}

template <bool kTransposed, int kPad = 8>
std::string run_product(Device& device) {
  constexpr size_t kK = 96;
  const auto a = converted<bf16>(normal_values(32 * kK, 3)), w = converted<bf16>(normal_values(16 * kK, 4));
  const Array<bf16> da(device, a, "a"), dw(device, w, "w");
  const Array<float> d(device, 32 * 16, "d");
  GPU_LAUNCH((product<kTransposed, kPad>), Dim3{1}, 64, 0, &device, da.get(), dw.get(), d.get(), static_cast<int>(kK));
  std::vector<double> wanted;
  for (size_t i = 0; i < 32 * 16; ++i) {
    double sum = 0;
    for (size_t k = 0; k < kK; ++k) {
      sum +=
          double{gpu::to_float(a[i / 16 * kK + k])} * gpu::to_float(w[kTransposed ? k * 16 + i % 16 : i % 16 * kK + k]);
    }
    wanted.push_back(sum);
  }
  return difference(d.values(), wanted, 1e-4, 1e-6);
}

TEST(SimtMatrix, AStagedProductIsRightAndItsMutantsAreNoticed) {
  const Mutants mutants = {.block_syncs = 2, .async_waits = 2, .plants = {"fragment"}};
  expect_right(run_product<false>);
  expect_mutants_caught(run_product<false>, mutants);
  expect_right(run_product<true>);
  expect_mutants_caught(run_product<true>, mutants);
}

TEST(SimtMatrix, PaddingKeepsLdmatrixFreeOfConflicts) {
  if (!kCheckBuild) return;
  for (const bool padded : {true, false}) {
    Device device;
    device.options.count = true;
    const std::string result = padded ? run_product<false, 8>(device) : run_product<false, 0>(device);
    EXPECT_EQ(result, "");
    double worst = 0;
    for (const simt::AccessCount& count : device.take_counts()) {
      if (count.shared && !count.write) worst = std::max(worst, count.factor());
    }
    EXPECT_EQ(worst, padded ? 1.0 : 4.0);
  }
}

}  // namespace
}  // namespace pf

#endif
