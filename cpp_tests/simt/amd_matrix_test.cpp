// AMD's matrix instructions on the emulator against tables written by hand, and the words of matrix tiles that are made
// of them.
#include "gpu/tiles.h"
#include "harness.h"

#if GPU_AMD_TILES

namespace pf {
namespace {

using gpu::bf16;
using gpu::Dim3;
using gpu::e4m3;
using gpu::f16;
using gpu::lane_id;
using simt::AmdMatrix;
using simt::Device;

// --- where single elements lie ---------------------------------------------------------------------------------------

// Lane `lane`, element `e` of its operand: row i or column j of the other side, and k. Worked out by hand from the
// index formulas of AMD's Matrix Instruction Calculator, some entries of each corner; its printed tables of these very
// instructions were not at hand.
struct Place {
  int lane, e, row, k;
};
// v_mfma_f32_16x16x16f16 and _bf16_1k, v_mfma_i32_16x16x16i8: A[i][k], and B[k][j] with j for i.
constexpr Place kMfma16[] = {{0, 0, 0, 0},   {0, 3, 0, 3},   {1, 0, 1, 0},    {15, 2, 15, 2}, {16, 0, 0, 4},
                             {17, 1, 1, 5},  {31, 3, 15, 7}, {32, 0, 0, 8},   {40, 2, 8, 10}, {47, 3, 15, 11},
                             {48, 0, 0, 12}, {50, 1, 2, 13}, {63, 0, 15, 12}, {63, 3, 15, 15}};
// v_mfma_i32_16x16x32_i8, v_mfma_f32_16x16x32_fp8_fp8.
constexpr Place kMfma32[] = {{0, 0, 0, 0},   {0, 7, 0, 7},    {3, 4, 3, 4},   {15, 7, 15, 7}, {16, 0, 0, 8},
                             {19, 5, 3, 13}, {31, 7, 15, 15}, {32, 0, 0, 16}, {41, 3, 9, 19}, {47, 7, 15, 23},
                             {48, 0, 0, 24}, {55, 6, 7, 30},  {63, 7, 15, 31}};
// v_wmma_f32_16x16x16_f16, _bf16, v_wmma_i32_16x16x16_iu8: lanes 16 to 31 repeat lanes 0 to 15.
constexpr Place kWmma[] = {{0, 0, 0, 0},   {0, 15, 0, 15},   {1, 8, 1, 8},  {7, 3, 7, 3},
                           {15, 0, 15, 0}, {15, 15, 15, 15}, {16, 0, 0, 0}, {31, 15, 15, 15}};
// Lane and register of D: row and column.
struct Result {
  int lane, r, row, column;
};
constexpr Result kMfmaD[] = {{0, 0, 0, 0},   {0, 3, 3, 0},  {15, 1, 1, 15}, {16, 0, 4, 0},  {21, 2, 6, 5},
                             {31, 3, 7, 15}, {32, 0, 8, 0}, {44, 1, 9, 12}, {48, 0, 12, 0}, {63, 3, 15, 15}};
constexpr Result kWmmaD[] = {{0, 0, 0, 0},  {0, 1, 2, 0},  {0, 7, 14, 0},  {15, 3, 6, 15},
                             {16, 0, 1, 0}, {16, 1, 3, 0}, {20, 5, 11, 4}, {31, 7, 15, 15}};

constexpr int kValuesD = gpu::kTileValues;

// Runs one instruction with a one in A[i][k] and a one in B[k][j], put into registers by the table alone, and tells
// where in D a one came out: [lane][register].
template <class D, int kRegisters, int kBits>
GPU_KERNEL(64)
void single(AmdMatrix type, const int* lanes_a, int e_a, const int* lanes_b, int e_b, uint32_t one, D* d) {
  uint32_t a[kRegisters] = {}, b[kRegisters] = {};
  const int lane = lane_id();
  if (lane == lanes_a[0] || lane == lanes_a[1]) a[e_a * kBits / 32] = one << (e_a * kBits % 32);
  if (lane == lanes_b[0] || lane == lanes_b[1]) b[e_b * kBits / 32] = one << (e_b * kBits % 32);
  D sums[kValuesD] = {};
  simt::amd_matrix(type, sums, a, b, simt::Where::current());
  for (int r = 0; r < kValuesD; ++r) d[lane * kValuesD + r] = sums[r];
}

template <class D, int kRegisters, int kBits, size_t kPlaces, size_t kResults>
void expect_layout(AmdMatrix type, uint32_t one, const Place (&places)[kPlaces], const Result (&results)[kResults]) {
  int checked = 0;
  for (const Place& a : places) {
    for (const Place& b : places) {
      Device device;
      const bool wmma = gpu::kWarp == 32;  // both halves of the warp hold an operand
      const auto lanes = [&](const Place& p) {
        return wmma ? std::vector<int>{p.lane % 16, p.lane % 16 + 16} : std::vector<int>{p.lane, p.lane};
      };
      const Array<int> lanes_a(device, lanes(a), "a"), lanes_b(device, lanes(b), "b");
      const Array<D> d(device, static_cast<size_t>(gpu::kWarp * kValuesD), "d");
      GPU_LAUNCH((single<D, kRegisters, kBits>), Dim3{1}, gpu::kWarp, 0, &device, type, lanes_a.get(), a.e,
                 lanes_b.get(), b.e, one, d.get());
      const std::vector<D> values = d.values();
      EXPECT_EQ(std::ranges::count(values, D{1}), a.k == b.k ? 1 : 0);
      EXPECT_EQ(std::ranges::count(values, D{0}) + (a.k == b.k ? 1 : 0), gpu::kWarp * kValuesD);
      for (const Result& result : results) {
        const bool wanted = a.k == b.k && result.row == a.row && result.column == b.row;
        EXPECT_EQ(values[static_cast<size_t>(result.lane * kValuesD + result.r)], wanted ? D{1} : D{0})
            << "A of lane " << a.lane << ", B of lane " << b.lane << ", D of lane " << result.lane;
        checked += wanted ? 1 : 0;
      }
    }
  }
  EXPECT_GT(checked, 3);  // the tables meet
}

TEST(AmdMatrix, ElementsLieWhereAmdSays) {
  if (kCheckBuild) return;
#if GPU_WMMA
  expect_layout<float, 8, 16>(AmdMatrix::kWmmaF16, 0x3c00, kWmma, kWmmaD);
  expect_layout<float, 8, 16>(AmdMatrix::kWmmaBf16, 0x3f80, kWmma, kWmmaD);
  expect_layout<int32_t, 4, 8>(AmdMatrix::kWmmaI8, 1, kWmma, kWmmaD);
#else
  expect_layout<float, 2, 16>(AmdMatrix::kMfmaF16, 0x3c00, kMfma16, kMfmaD);
  expect_layout<float, 2, 16>(AmdMatrix::kMfmaBf16, 0x3f80, kMfma16, kMfmaD);
  expect_layout<int32_t, 1, 8>(AmdMatrix::kMfmaI8, 1, kMfma16, kMfmaD);
  expect_layout<int32_t, 2, 8>(AmdMatrix::kMfmaI8Deep, 1, kMfma32, kMfmaD);
  expect_layout<float, 2, 8>(AmdMatrix::kMfmaFp8, 0x40, kMfma32, kMfmaD);  // 1.0 with a bias of 8
#endif
}

// --- tiles -----------------------------------------------------------------------------------------------------------

// d[16][kTileColumns] += a[16][32 bytes] b[kTileColumns][32 bytes]^T, staged through shared memory.
template <class T, class D>
GPU_KERNEL(64)
void tile_product(const T* a, const T* b, D* d) {
  GPU_SHARED(gpu::Vec16, sa, [16][2]);
  GPU_SHARED(gpu::Vec16, sb, [16][2]);
  const int lane = lane_id();
  if (lane < 32) {
    gpu::store_shared(&sa[lane / 2][lane % 2], gpu::load_vec<gpu::Vec16>(a + lane * gpu::kPerVec<T>));
    gpu::store_shared(&sb[lane / 2][lane % 2], gpu::load_vec<gpu::Vec16>(b + lane * gpu::kPerVec<T>));
  }
  gpu::block_sync();
  uint32_t fa[gpu::kRegistersA], of16[gpu::kRegistersOf16], fb[gpu::kRegistersB];
  const bool wrong = GPU_PLANTED("fragment");
  gpu::load_a(fa, [&](int row, int chunk) { return static_cast<const void*>(&sa[row][wrong ? 1 - chunk : chunk]); });
  gpu::load_b(of16, [&](int row, int chunk) { return static_cast<const void*>(&sb[row][chunk]); });
  gpu::pick_b(of16, 0, fb);
  D sums[kValuesD];
  const auto at = [&](int j) {
    return GPU_PLANTED("transposed") ? gpu::tile_column(j) * 16 + gpu::tile_row(0)
                                     : gpu::tile_row(0) * 16 + gpu::tile_column(j);
  };
  for (int j = 0; j < kValuesD; ++j) sums[j] = static_cast<D>(at(j));
  gpu::mma<T>(sums, fa, fb);
  for (int j = 0; j < kValuesD; ++j) d[at(j)] = sums[j];
}

double value_of(int8_t v) { return v; }
template <class T>
double value_of(T v) {
  return gpu::to_float(v);
}

template <class T, class D = float>
std::string run_tile(Device& device, const std::vector<T>& a, const std::vector<T>& b) {
  const Array<T> da(device, a, "a"), db(device, b, "b");
  const Array<D> d(device, 256, "d");
  GPU_LAUNCH((tile_product<T, D>), Dim3{1}, gpu::kWarp, 0, &device, da.get(), db.get(), d.get());
  const size_t k = a.size() / 16;
  std::vector<float> values;
  std::vector<double> wanted;
  for (size_t i = 0; i < 256; ++i) {
    double sum = static_cast<double>(i) * gpu::kSumFactor<T>;
    for (size_t j = 0; j < k; ++j) sum += value_of(a[i / 16 * k + j]) * value_of(b[i % 16 * k + j]);
    wanted.push_back(sum);
    values.push_back(static_cast<float>(d.values()[i]) * gpu::kSumFactor<T>);
  }
  return difference(values, wanted, 1e-4, 1e-6);
}

TEST(AmdMatrix, TilesOfEveryType) {
  const std::vector<float> a = normal_values(16 * 32, 1), b = normal_values(16 * 32, 2);
  const std::vector<float> a16(a.begin(), a.begin() + 256), b16(b.begin(), b.begin() + 256);
  const Mutants mutants = {.block_syncs = 1, .plants = {"fragment", "transposed"}};
  const Case of_f16 = [&](Device& d) { return run_tile<f16>(d, converted<f16>(a16), converted<f16>(b16)); };
  const Case of_bf16 = [&](Device& d) { return run_tile<bf16>(d, converted<bf16>(a16), converted<bf16>(b16)); };
  std::vector<int8_t> ia, ib;
  for (const float v : a) ia.push_back(static_cast<int8_t>(40 * v));
  for (const float v : b) ib.push_back(static_cast<int8_t>(-40 * v));
  const Case of_int8 = [&](Device& d) { return run_tile<int8_t, int32_t>(d, ia, ib); };
  std::vector<Case> cases = {of_f16, of_bf16, of_int8};
#if GPU_HAS_FP8_MMA
  cases.push_back([&](Device& d) { return run_tile<e4m3>(d, converted<e4m3>(a), converted<e4m3>(b)); });
#endif
  for (const Case& run : cases) {
    expect_right(run);
    expect_mutants_caught(run, mutants);
  }
}

#if GPU_HAS_FP8_MMA
// Every bit pattern of OCP's e4m3, negative zero and NaN among them, is multiplied as what it is.
TEST(AmdMatrix, EveryEightBitFloat) {
  for (int first = 0; first < 256; first += 16) {
    std::vector<e4m3> a(16 * 32, e4m3{0x80}), b(16 * 32, e4m3{0x38});  // -0 and 1
    for (int row = 0; row < 16; ++row) a[static_cast<size_t>(row * 32 + row)].bits = static_cast<uint8_t>(first + row);
    Device device;
    const Array<e4m3> da(device, a, "a"), db(device, b, "b");
    const Array<float> d(device, 256, "d");
    GPU_LAUNCH((tile_product<e4m3, float>), Dim3{1}, gpu::kWarp, 0, &device, da.get(), db.get(), d.get());
    for (int row = 0; row < 16; ++row) {
      const float wanted = gpu::to_float(e4m3{static_cast<uint8_t>(first + row)});
      const float value = (d.values()[static_cast<size_t>(row * 16)] - static_cast<float>(row * 16)) * 4.0f;
      if (std::isnan(wanted)) {
        EXPECT_TRUE(std::isnan(value)) << first + row;
      } else {
        EXPECT_NEAR(value, wanted, 1e-4) << first + row;
      }
    }
  }
}
#endif

#if GPU_WMMA
// Lanes 16 to 31 must hold what lanes 0 to 15 do.
template <int kUnused>
GPU_KERNEL(32)
void not_repeated() {
  float d[8] = {};
  uint32_t a[8] = {}, b[8] = {};
  a[0] = lane_id() == 20 ? 0x3c00u : 0u;
  gpu::matrix_f16(d, a, b);
}
TEST(AmdMatrix, AnOperandThatIsNotRepeatedIsReported) {
  Device device;
  const std::string result = run_case(
      [](Device& d) {
        GPU_LAUNCH((not_repeated<0>), Dim3{1}, 32, 0, &d);
        return std::string();
      },
      device);
  EXPECT_NE(result.find("lanes 4 and 20"), std::string::npos) << result;
}
#endif

}  // namespace
}  // namespace pf

#endif
