// Packed weights and the ops linear and embed, through the C interface of the CPU backend.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ops/cpu/half.h"
#include "runtime/backend_loader.h"
#include "runtime/device.h"
#include "runtime/errors.h"

namespace {

using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;

const char* const kIsas[] = {
    "generic", "avx2", "avxvnni", "avx512", "avx512vnni", "emulated avxvnni", "emulated avx512vnni"};
const char* const kFormats[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"};

int block_cols(int32_t format) { return format < PF_FMT_Q8_0 ? 1 : format < PF_FMT_Q4_K ? 32 : 256; }

// --- file blocks: random ones, and what they mean
// -------------------------------------------------------------------------

// Finite fp16 of moderate size, either sign.
uint16_t random_half(std::mt19937& rng, float size) {
  return pf::float_to_half(std::uniform_real_distribution<float>(-size, size)(rng));
}

void put(Bytes& bytes, size_t at, uint16_t value) { std::memcpy(bytes.data() + at, &value, 2); }

// A matrix of `rows` x `cols` in `format`: codes are uniform over all bit patterns, scales random.
Bytes random_matrix(int32_t format, int64_t rows, int64_t cols, std::mt19937& rng) {
  Bytes bytes(pf::row_bytes(format, cols) * static_cast<size_t>(rows));
  for (auto& byte : bytes) byte = static_cast<uint8_t>(rng());
  std::vector<size_t> halves;  // places of fp16 in a block
  size_t block = 0;
  switch (format) {
    case PF_FMT_F32:
      for (size_t at = 0; at < bytes.size(); at += 4) {
        const float value = std::normal_distribution<float>(0, 0.1f)(rng);
        std::memcpy(bytes.data() + at, &value, 4);
      }
      return bytes;
    case PF_FMT_BF16:
      for (size_t at = 0; at < bytes.size(); at += 2) {
        put(bytes, at, static_cast<uint16_t>(pf::float_to_bits(std::normal_distribution<float>(0, 0.1f)(rng)) >> 16));
      }
      return bytes;
    case PF_FMT_F16:
      block = 2, halves = {0};
      break;
    case PF_FMT_Q8_0:
      block = 34, halves = {0};
      break;
    case PF_FMT_Q4_0:
      block = 18, halves = {0};
      break;
    case PF_FMT_Q4_1:
      block = 20, halves = {0, 2};
      break;
    case PF_FMT_Q4_K:
      block = 144, halves = {0, 2};
      break;
    default:
      block = 210, halves = {208};
  }
  for (size_t at = 0; at < bytes.size(); at += block) {
    for (const size_t half : halves) put(bytes, at + half, random_half(rng, 0.01f));
  }
  return bytes;
}

// Value i of a row, straight from the definition of the format.
float value_of(int32_t format, const uint8_t* row, int64_t i) {
  const auto half_at = [](const uint8_t* p) {
    uint16_t h;
    std::memcpy(&h, p, 2);
    return pf::half_to_float(h);
  };
  switch (format) {
    case PF_FMT_F32: {
      float value;
      std::memcpy(&value, row + 4 * i, 4);
      return value;
    }
    case PF_FMT_F16:
      return half_at(row + 2 * i);
    case PF_FMT_BF16: {
      uint16_t h;
      std::memcpy(&h, row + 2 * i, 2);
      return pf::bfloat_to_float(h);
    }
    case PF_FMT_Q8_0: {
      const uint8_t* block = row + i / 32 * 34;
      return half_at(block) * static_cast<float>(static_cast<int8_t>(block[2 + i % 32]));
    }
    case PF_FMT_Q4_0:
    case PF_FMT_Q4_1: {
      const bool has_min = format == PF_FMT_Q4_1;
      const uint8_t* block = row + i / 32 * (has_min ? 20 : 18);
      const uint8_t byte = block[(has_min ? 4 : 2) + i % 16];
      const int code = i % 32 < 16 ? byte & 15 : byte >> 4;
      if (has_min) return half_at(block) * static_cast<float>(code) + half_at(block + 2);
      return half_at(block) * static_cast<float>(code - 8);
    }
    case PF_FMT_Q4_K: {
      const uint8_t* block = row + i / 256 * 144;
      const int64_t in = i % 256, group = in / 32;
      const uint8_t* s = block + 4;
      int scale = 0, min = 0;
      if (group < 4) {
        scale = s[group] & 63;
        min = s[group + 4] & 63;
      } else {
        scale = (s[group + 4] & 15) + 16 * (s[group - 4] >> 6);
        min = (s[group + 4] >> 4) + 16 * (s[group] >> 6);
      }
      const uint8_t byte = block[16 + in / 64 * 32 + in % 32];
      const int code = in % 64 < 32 ? byte & 15 : byte >> 4;
      const float product = half_at(block) * static_cast<float>(scale) * static_cast<float>(code);
      return product - half_at(block + 2) * static_cast<float>(min);
    }
    default: {
      const uint8_t* block = row + i / 256 * 210;
      const int64_t in = i % 256, half = in / 128, t = in % 128 / 32, l = in % 32;
      const uint8_t low_byte = block[64 * half + 32 * (t % 2) + l];
      const int low = t < 2 ? low_byte & 15 : low_byte >> 4;
      const int high = (block[128 + 32 * half + l] >> (2 * t)) & 3;
      const auto scale = static_cast<float>(static_cast<int8_t>(block[192 + in / 16]));
      return half_at(block + 208) * scale * static_cast<float>(low + 16 * high - 32);
    }
  }
}

// --- the backend
// -----------------------------------------------------------------------------------------------------------

// Null when this machine cannot run `isa`. "emulated ..." runs where the set without VNNI does.
std::shared_ptr<pf::Device> device(const std::string& isa, int threads = 2) {
  const std::string emulated = "emulated ";
  try {
    if (isa.rfind(emulated, 0) == 0) {
      return std::make_shared<pf::Device>(PF_EMULATED_VNNI_BACKEND_PATH, threads, isa.substr(emulated.size()));
    }
    return std::make_shared<pf::Device>(PF_CPU_BACKEND_PATH, threads, isa);
  } catch (const pf::BackendError&) {
    return nullptr;
  }
}

struct Matrix {  // parts as in a file, and their values
  int64_t rows = 0, cols = 0;
  std::vector<Bytes> data;
  std::vector<PfWeightPart> parts;
  Floats values;

  Matrix(const std::vector<std::pair<std::string, int64_t>>& formats_and_rows, int64_t columns, uint32_t seed = 1)
      : cols(columns) {
    std::mt19937 rng(seed);
    for (const auto& [name, part_rows] : formats_and_rows) {
      const PfFormat format = pf::format_from_name(name);
      data.push_back(random_matrix(format, part_rows, cols, rng));
      const Bytes& bytes = data.back();
      parts.push_back({bytes.data(), bytes.size(), part_rows, cols, format});
      const size_t stride = pf::row_bytes(format, cols);
      for (int64_t r = 0; r < part_rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          values.push_back(value_of(format, bytes.data() + static_cast<size_t>(r) * stride, c));
        }
      }
      rows += part_rows;
    }
  }
};

Floats normal_values(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Floats values(static_cast<size_t>(count));
  for (float& value : values) value = normal(rng);
  return values;
}

// y[M, N]; x is given a stride wider than its columns.
Floats linear(const std::shared_ptr<pf::Device>& on, const pf::Weight& weight, const Floats& x, int64_t M,
              const Floats* bias = nullptr) {
  const int64_t K = weight.shape().cols, N = weight.shape().rows;
  Floats strided(static_cast<size_t>(M * (K + 3)), NAN);
  for (int64_t r = 0; r < M; ++r) std::copy_n(x.data() + r * K, K, strided.data() + r * (K + 3));
  Floats y(static_cast<size_t>(M * N), NAN);
  PfCall call{};
  call.op = on->backend().find_op("linear");
  call.num_inputs = call.num_outputs = 1;
  call.in[0] = {strided.data(), M, K, K + 3, PF_F32};
  call.out[0] = {y.data(), M, N, N, PF_F32};
  call.weight = weight.handle();
  if (bias != nullptr) call.vector = bias->data(), call.vector_len = N;
  const PfStep step{};
  on->check(on->backend().execute(on->handle(), &call, 1, &step), "running linear");
  return y;
}

bool same_bits(const float* a, const float* b, size_t count) { return std::memcmp(a, b, count * sizeof(float)) == 0; }

class Formats : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Formats, testing::ValuesIn(kFormats), [](const auto& info) { return info.param; });

}  // namespace

TEST_P(Formats, RoundTripExactly) {
  const auto on = device("auto");
  const int64_t K =
      2 * block_cols(pf::format_from_name(GetParam())) * (std::string(GetParam()).front() == 'q' ? 1 : 37);
  for (const int64_t N : {1, 15, 16, 17, 50}) {
    const Matrix matrix({{GetParam(), N}}, K, static_cast<uint32_t>(N));
    const pf::Weight weight(on, matrix.parts);
    Floats values(matrix.values.size());
    weight.dequantize(0, N, values.data());
    EXPECT_TRUE(same_bits(values.data(), matrix.values.data(), values.size())) << N;
    weight.dequantize(N - 1, 1, values.data());
    EXPECT_TRUE(same_bits(values.data(), matrix.values.data() + (N - 1) * K, static_cast<size_t>(K))) << N;
  }
}

TEST(PackedWeight, PartsOfMixedFormatsFollowEachOther) {
  const auto on = device("auto");
  const Matrix matrix({{"q4_k", 40}, {"q6_k", 7}, {"f16", 33}, {"q8_0", 16}, {"f32", 1}}, 512);
  const pf::Weight weight(on, matrix.parts);
  Floats values(matrix.values.size());
  weight.dequantize(0, matrix.rows, values.data());
  EXPECT_TRUE(same_bits(values.data(), matrix.values.data(), values.size()));
}

TEST(PackedWeight, TakesAboutTheSizeOfTheFile) {
  const auto on = device("auto");
  for (const char* format : kFormats) {
    const Matrix matrix({{format, 64}}, 512);
    const double ratio =
        static_cast<double>(pf::Weight(on, matrix.parts).bytes()) / static_cast<double>(matrix.data[0].size());
    EXPECT_GE(ratio, 1.0) << format;
    EXPECT_LE(ratio, 1.03) << format;
  }
}

TEST(PackedWeight, IsRefusedWhenItsPartsAreWrong) {
  const auto on = device("auto");
  const Bytes bytes(4096);
  const auto pack = [&](std::vector<PfWeightPart> parts) {
    PfWeight* weight = nullptr;
    const int code = on->backend().weight_pack(on->handle(), parts.data(), static_cast<int32_t>(parts.size()), &weight);
    EXPECT_EQ(weight, nullptr);
    return code == 0 ? "" : std::string(on->backend().last_error());
  };
  EXPECT_NE(pack({}).find("at least one part"), std::string::npos);
  EXPECT_NE(pack({{bytes.data(), 4, 1, 1, 99}}).find("format 99"), std::string::npos);
  EXPECT_NE(pack({{bytes.data(), 18, 1, 33, PF_FMT_Q4_0}}).find("33 columns"), std::string::npos);
  EXPECT_NE(pack({{bytes.data(), 17, 1, 32, PF_FMT_Q4_0}}).find("17 bytes"), std::string::npos);
  EXPECT_NE(pack({{bytes.data(), 0, 0, 32, PF_FMT_Q4_0}}).find("shape [0, 32]"), std::string::npos);
  EXPECT_NE(pack({{bytes.data(), 128, 1, 32, PF_FMT_F32}, {bytes.data(), 64, 1, 16, PF_FMT_F32}}).find("16 columns"),
            std::string::npos);
}

// Against double precision, with the error that int8 activations may cause: half a step of each of K values.
TEST_P(Formats, LinearIsNearTheExactProduct) {
  const bool quantized = std::string(GetParam()).front() == 'q';
  const int64_t K = 512, N = 75, M = 13;
  const Matrix matrix({{GetParam(), N}}, K);
  const Floats x = normal_values(M * K, 2), bias = normal_values(N, 3);
  for (const char* isa : kIsas) {
    const auto on = device(isa);
    if (on == nullptr) continue;
    const Floats y = linear(on, pf::Weight(on, matrix.parts), x, M, &bias);
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < N; ++n) {
        double exact = bias[static_cast<size_t>(n)], squares = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double w = matrix.values[static_cast<size_t>(n * K + k)];
          exact += x[static_cast<size_t>(m * K + k)] * w;
          squares += w * w;
        }
        // An activation is off by at most amax / 254 < 0.02, evenly spread: standard deviation 0.012 at worst.
        const double allowed = quantized ? 6 * 0.012 * std::sqrt(squares) : 1e-5 * (1 + std::sqrt(squares * K));
        ASSERT_NEAR(y[static_cast<size_t>(m * N + n)], exact, allowed) << isa << " row " << m << " column " << n;
      }
    }
  }
}

TEST_P(Formats, RowsDoNotDependOnTheirNumber) {
  const int64_t K = 256 * 3, most = 40;
  const Matrix matrix({{GetParam(), 33}, {GetParam(), 20}}, K);
  const int64_t N = matrix.rows;
  const Floats x = normal_values(300 * K, 4);
  for (const char* isa : kIsas) {
    const auto on = device(isa);
    if (on == nullptr) continue;
    const pf::Weight weight(on, matrix.parts);
    const Floats together = linear(on, weight, x, 300);  // more than the rows of one item
    for (int64_t m = 0; m < 300; m += m < most ? 1 : 29) {
      const Floats row(x.begin() + m * K, x.begin() + (m + 1) * K);
      ASSERT_TRUE(same_bits(linear(on, weight, row, 1).data(), together.data() + m * N, static_cast<size_t>(N)))
          << isa << " row " << m;
    }
    for (int64_t M = 1; M <= most; ++M) {
      ASSERT_TRUE(same_bits(linear(on, weight, x, M).data(), together.data(), static_cast<size_t>(M * N)))
          << isa << " " << M << " rows";
    }
  }
}

TEST_P(Formats, SetsWithFmaAgreeBitForBit) {
  const auto avx2 = device("avx2");
  if (avx2 == nullptr) GTEST_SKIP() << "needs avx2";
  const int64_t K = 512, M = 21;
  const Matrix matrix({{GetParam(), 70}}, K);
  const Floats x = normal_values(M * K, 5), bias = normal_values(70, 6);
  const Floats expected = linear(avx2, pf::Weight(avx2, matrix.parts), x, M, &bias);
  for (const char* isa : kIsas) {
    const auto on = device(isa);
    if (on == nullptr || std::string(isa) == "generic") continue;
    const Floats y = linear(on, pf::Weight(on, matrix.parts), x, M, &bias);
    EXPECT_TRUE(same_bits(y.data(), expected.data(), y.size())) << isa;
  }
}

TEST(Linear, DoesNotDependOnThreads) {
  const Matrix matrix({{"q4_1", 200}, {"q8_0", 100}, {"f16", 90}}, 256);
  const Floats x = normal_values(17 * 256, 7);
  const auto one = device("auto", 1);
  const Floats expected = linear(one, pf::Weight(one, matrix.parts), x, 17);
  for (const int threads : {2, 3}) {
    const auto on = device("auto", threads);
    const Floats y = linear(on, pf::Weight(on, matrix.parts), x, 17);
    EXPECT_TRUE(same_bits(y.data(), expected.data(), y.size())) << threads;
  }
}

// Largest codes of weights and activations: a sum that overflowed int16 would be far off.
TEST(Linear, ExtremeCodesDoNotOverflow) {
  const int64_t K = 256;
  for (const char* format : {"q8_0", "q4_0", "q4_1", "q4_k", "q6_k"}) {
    for (const uint8_t fill : {0x00, 0x80, 0xff, 0x7f}) {
      Matrix matrix({{format, 16}}, K);
      Bytes bytes(matrix.data[0].size(), fill);
      const int32_t id = matrix.parts[0].format;
      const size_t block = pf::row_bytes(id, block_cols(id));
      for (size_t at = 0; at < bytes.size(); at += block) {
        put(bytes, at + (id == PF_FMT_Q6_K ? 208 : 0), pf::float_to_half(0.5f));
        if (id == PF_FMT_Q4_1 || id == PF_FMT_Q4_K) put(bytes, at + 2, pf::float_to_half(-0.25f));
      }
      matrix.parts[0].data = bytes.data();
      for (const float sign : {1.0f, -1.0f}) {
        const Floats x(static_cast<size_t>(K), 3.0f * sign);  // all codes are 127 or -127
        double exact = 0, size = 0;
        for (int64_t k = 0; k < K; ++k) {
          exact += static_cast<double>(3.0f * sign) * value_of(id, bytes.data(), k);
          size += std::fabs(3.0 * value_of(id, bytes.data(), k)) + 24;
        }
        for (const char* isa : kIsas) {
          const auto on = device(isa);
          if (on == nullptr) continue;
          for (const float y : linear(on, pf::Weight(on, matrix.parts), x, 1)) {
            EXPECT_NEAR(y, exact, 1e-5 * size) << format << " " << int{fill} << " " << isa;
          }
        }
      }
    }
  }
}

TEST_P(Formats, InvalidActivationsPoisonTheirRowOnly) {
  const Matrix matrix({{GetParam(), 20}}, 256);
  for (const char* isa : kIsas) {
    const auto on = device(isa);
    if (on == nullptr) continue;
    const pf::Weight weight(on, matrix.parts);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      Floats x = normal_values(3 * 256, 8);
      x[256 + 100] = bad;
      const Floats y = linear(on, weight, x, 3);
      for (size_t n = 0; n < 20; ++n) {
        EXPECT_TRUE(std::isfinite(y[n])) << isa;
        EXPECT_FALSE(std::isfinite(y[20 + n])) << isa << " " << bad;
        EXPECT_TRUE(std::isfinite(y[40 + n])) << isa;
      }
    }
  }
}

TEST_P(Formats, ZerosAndTinyActivationsGiveZeros) {
  const Matrix matrix({{GetParam(), 20}}, 256);
  for (const float value : {0.0f, -0.0f, 1e-42f}) {
    const auto on = device("auto");
    for (const float y : linear(on, pf::Weight(on, matrix.parts), Floats(256, value), 1)) EXPECT_NEAR(y, 0.0f, 1e-37f);
  }
}

TEST_P(Formats, EmbedGathersScaledRows) {
  const Matrix matrix({{GetParam(), 30}, {GetParam(), 9}}, 256);
  const std::vector<int32_t> ids = {0, 38, 15, 30, 15};
  const auto count = static_cast<int64_t>(ids.size());
  for (const char* isa : kIsas) {
    const auto on = device(isa);
    if (on == nullptr) continue;
    const pf::Weight weight(on, matrix.parts);
    Floats y(static_cast<size_t>(count * 256), NAN);
    PfCall call{};
    call.op = on->backend().find_op("embed");
    call.num_outputs = 1;
    call.out[0] = {y.data(), count, 256, 256, PF_F32};
    call.weight = weight.handle();
    call.floats[0] = 3.0;
    PfStep step{};
    step.num_tokens = static_cast<int32_t>(count);
    step.token_ids = ids.data();
    on->check(on->backend().execute(on->handle(), &call, 1, &step), "running embed");
    for (size_t t = 0; t < ids.size(); ++t) {
      for (size_t c = 0; c < 256; ++c) {
        ASSERT_EQ(y[t * 256 + c], matrix.values[static_cast<size_t>(ids[t]) * 256 + c] * 3.0f) << isa;
      }
    }
  }
}
