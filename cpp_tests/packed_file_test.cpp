// Packed weights written to a file and read back.
#include "runtime/packed_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "runtime/errors.h"

namespace {

using Bytes = std::vector<uint8_t>;

class TemporaryFile {
 public:
  TemporaryFile() {
    std::string name = ::testing::TempDir() + "packed-XXXXXX";
    descriptor = mkstemp(name.data());
    EXPECT_GE(descriptor, 0);
    unlink(name.c_str());
  }
  ~TemporaryFile() { close(descriptor); }
  int descriptor;
};

std::shared_ptr<pf::Device> cpu(int threads) {
  return std::make_shared<pf::Device>(PF_CPU_BACKEND_PATH, threads, "generic");
}

// Bytes that are finite numbers in every format are not needed: nothing computes with them.
Bytes random_bytes(size_t size) {
  std::mt19937 rng(7);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(rng() & 0x3f);
  return bytes;
}

std::vector<float> values(const pf::Weight& weight) {
  std::vector<float> all(static_cast<size_t>(weight.shape().rows * weight.shape().cols));
  weight.dequantize(0, weight.shape().rows, all.data());
  return all;
}

std::vector<PfWeightPart> without_data(std::vector<PfWeightPart> parts) {
  for (PfWeightPart& part : parts) part.data = nullptr;
  return parts;
}

TEST(PackedFile, GivesBackWhatWasPacked) {
  const auto device = cpu(3);
  for (const char* name : {"f32", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"}) {
    const PfFormat format = pf::format_from_name(name);
    const int64_t cols = 512;
    // More than one piece of a read, ragged tiles, and two parts.
    const size_t row = pf::row_bytes(format, cols);
    const Bytes bytes = random_bytes(row * 2500);
    const std::vector<PfWeightPart> parts = {{bytes.data(), row * 2477, 2477, cols, format},
                                             {bytes.data() + row * 2477, row * 23, 23, cols, format}};
    const pf::Weight packed(device, parts);
    const TemporaryFile file;
    const uint64_t sum = pf::save_weight(packed, file.descriptor, 4096);
    const auto restored = pf::restore_weights(device, file.descriptor, {{without_data(parts), 4096, sum}});
    ASSERT_EQ(restored.size(), 1u);
    EXPECT_EQ(restored[0]->bytes(), packed.bytes());
    EXPECT_EQ(values(*restored[0]), values(packed)) << name;
  }
}

TEST(PackedFile, RefusesOtherBytes) {
  const auto device = cpu(2);
  const Bytes bytes = random_bytes(4 * 64 * 48);
  const std::vector<PfWeightPart> parts = {{bytes.data(), bytes.size(), 48, 64, PF_FMT_F32}};
  const pf::Weight packed(device, parts);
  const TemporaryFile file;
  const uint64_t sum = pf::save_weight(packed, file.descriptor, 64);
  const auto restore = [&](uint64_t offset, uint64_t wanted) {
    return pf::restore_weights(device, file.descriptor, {{without_data(parts), offset, wanted}});
  };
  EXPECT_NO_THROW(restore(64, sum));
  EXPECT_THROW(restore(64, sum + 1), std::invalid_argument);
  EXPECT_THROW(restore(80, sum), std::invalid_argument);             // ends early
  EXPECT_THROW(restore(uint64_t{1} << 63, sum), std::system_error);  // no such place
  for (const uint64_t at : {uint64_t{64}, uint64_t{64} + 4 * 64 * 48 / 2 + 3, uint64_t{64} + 4 * 64 * 48 - 1}) {
    uint8_t byte = 0;
    ASSERT_EQ(pread(file.descriptor, &byte, 1, static_cast<off_t>(at)), 1);
    const uint8_t wrong = byte ^ 0x40;
    ASSERT_EQ(pwrite(file.descriptor, &wrong, 1, static_cast<off_t>(at)), 1);
    EXPECT_THROW(restore(64, sum), std::invalid_argument) << at;
    ASSERT_EQ(pwrite(file.descriptor, &byte, 1, static_cast<off_t>(at)), 1);
  }
  ASSERT_EQ(ftruncate(file.descriptor, 64 + 100), 0);
  EXPECT_THROW(restore(64, sum), std::invalid_argument);
  EXPECT_THROW(pf::save_weight(packed, -1, 0), std::system_error);
}

TEST(PackedFile, SumsOfPiecesAddUpAndKnowTheirPlace) {
  Bytes bytes = random_bytes(1000);
  const uint64_t whole = pf::checksum(bytes.data(), 0, bytes.size());
  EXPECT_EQ(pf::checksum(bytes.data(), 0, 480) + pf::checksum(bytes.data() + 480, 480, 520), whole);
  EXPECT_NE(pf::checksum(bytes.data(), 16, bytes.size()), whole);
  std::swap_ranges(bytes.begin(), bytes.begin() + 16, bytes.begin() + 32);
  EXPECT_NE(pf::checksum(bytes.data(), 0, bytes.size()), whole);
}

TEST(PackedFile, NeedsABackendThatCan) {
  const auto device = std::make_shared<pf::Device>(PF_POOR_BACKEND_PATH, 1, "generic");
  EXPECT_THROW(pf::restore_weights(device, 0, {}), pf::BackendError);
}

}  // namespace
