#include "weights/gguf.h"

#include <gtest/gtest.h>

#include "weight_files.h"

namespace pf::weights {
namespace {

using testing::Bytes;
using testing::FileBuilder;
using testing::small_gguf;

// The message of the FormatError that parsing raises; empty when it raises none.
std::string error_of(const Bytes& file) {
  try {
    GgufHeader::parse(file);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

// A file of one tensor with the given table entry and `data` bytes of data.
Bytes one_tensor(std::vector<uint64_t> dims, uint32_t type, uint64_t offset, size_t data, uint32_t alignment = 32) {
  FileBuilder file;
  file.raw("GGUF").put<uint32_t>(3).put<uint64_t>(1).put<uint64_t>(1);
  file.text("general.alignment").type(GgufType::kUint32).put(alignment);
  file.text("t").put(static_cast<uint32_t>(dims.size()));
  for (const uint64_t size : dims) file.put(size);
  file.put(type).put(offset);
  return file.pad(alignment != 0 ? alignment : 1).zeros(data).bytes;
}

TEST(Gguf, ReadsMetadataAndTensorTable) {
  for (const uint32_t version : {2u, 3u}) {
    const Bytes file = small_gguf(version);
    const GgufHeader header = GgufHeader::parse(file);
    EXPECT_EQ(header.version, version);
    EXPECT_EQ(header.alignment, 32u);
    ASSERT_EQ(header.metadata.size(), 3u);
    EXPECT_EQ(header.metadata[0].key, "general.architecture");
    EXPECT_FALSE(header.metadata[0].is_array);
    EXPECT_TRUE(header.metadata[1].is_array);
    ByteReader tokens(file, header.metadata[1].offset);
    EXPECT_EQ(read_gguf_string(tokens), "a");
    EXPECT_EQ(read_gguf_string(tokens), "bc");
    ByteReader scores(file, header.metadata[2].offset);
    EXPECT_EQ(scores.read<float>("score"), 0.5f);
    EXPECT_EQ(scores.read<float>("score"), -1.0f);

    ASSERT_EQ(header.tensors.size(), 2u);
    const TensorInfo& norm = header.tensors[0];
    const TensorInfo& matrix = header.tensors[1];
    EXPECT_EQ(norm.shape, (std::vector<uint64_t>{2, 3}));  // torch order
    EXPECT_EQ(norm.nbytes, 24u);
    EXPECT_EQ(matrix.type, "Q8_0");
    EXPECT_EQ(matrix.shape, (std::vector<uint64_t>{2, 64}));
    EXPECT_EQ(matrix.nbytes, 2u * 2 * 34);
    EXPECT_EQ(matrix.offset + matrix.nbytes, file.size());
    EXPECT_EQ(matrix.offset - norm.offset, 32u);
  }
}

TEST(Gguf, RefusesOtherVersionsAndByteOrders) {
  EXPECT_NE(error_of(small_gguf(1)).find("version 1"), std::string::npos);
  EXPECT_NE(error_of(small_gguf(4)).find("version 4"), std::string::npos);
  EXPECT_NE(error_of(small_gguf(0x03000000)).find("big-endian"), std::string::npos);
  EXPECT_NE(error_of(FileBuilder().raw("GGML").zeros(100).bytes).find("GGUF"), std::string::npos);
}

TEST(Gguf, RefusesTensorsOutOfRangeOrMisplaced) {
  EXPECT_EQ(error_of(one_tensor({4}, 0, 0, 16)), "");
  EXPECT_NE(error_of(one_tensor({4}, 0, 0, 15)).find("truncated"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({4}, 0, 32, 16)).find("truncated"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({4}, 0, UINT64_MAX - 31, 16)).find("truncated"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({4}, 0, 8, 64)).find("alignment"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({4}, 0, 0, 16, 24)).find("alignment"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({4}, 0, 0, 16, 0)).find("alignment"), std::string::npos);
}

TEST(Gguf, RefusesImpossibleShapes) {
  EXPECT_NE(error_of(one_tensor({}, 0, 0, 16)).find("dimensions"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({1, 1, 1, 1, 1}, 0, 0, 16)).find("dimensions"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({0, 4}, 0, 0, 16)).find("shape"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({UINT64_MAX / 4 + 2}, 0, 0, 16)).find("64 bits"),
            std::string::npos);  // 4 · n wraps to 4
  EXPECT_NE(error_of(one_tensor({1ull << 32, 1ull << 32}, 0, 0, 16)).find("shape"), std::string::npos);
  EXPECT_NE(error_of(one_tensor({33}, 8, 0, 64)).find("multiple of 32"), std::string::npos);
}

TEST(Gguf, NamesTypesThatItCannotSize) {
  const GgufHeader header = GgufHeader::parse(one_tensor({7}, 1234, 0, 16));
  EXPECT_EQ(header.tensors[0].type, "type 1234");
  EXPECT_EQ(header.tensors[0].nbytes, 0u);
}

TEST(Gguf, RefusesOverlapsAndRepetitions) {
  const auto two = [](std::string_view first, std::string_view second, uint64_t offset) {
    FileBuilder file;
    file.raw("GGUF").put<uint32_t>(3).put<uint64_t>(2).put<uint64_t>(0);
    file.text(first).put<uint32_t>(1).put<uint64_t>(16).put<uint32_t>(0).put<uint64_t>(0);
    file.text(second).put<uint32_t>(1).put<uint64_t>(4).put<uint32_t>(0).put(offset);
    return file.pad(32).zeros(128).bytes;
  };
  EXPECT_EQ(error_of(two("a", "b", 64)), "");
  EXPECT_NE(error_of(two("a", "b", 32)).find("overlap"), std::string::npos);
  EXPECT_NE(error_of(two("a", "a", 64)).find("twice"), std::string::npos);
}

TEST(Gguf, BoundsCountsBeforeAllocating) {
  const auto counts = [](uint64_t tensors, uint64_t entries) {
    return FileBuilder().raw("GGUF").put<uint32_t>(3).put(tensors).put(entries).zeros(64).bytes;
  };
  EXPECT_NE(error_of(counts(UINT64_MAX, 0)).find("more than fit"), std::string::npos);
  EXPECT_NE(error_of(counts(0, UINT64_MAX)).find("more than fit"), std::string::npos);
  FileBuilder array;
  array.raw("GGUF").put<uint32_t>(3).put<uint64_t>(0).put<uint64_t>(1);
  array.text("k").type(GgufType::kArray).type(GgufType::kFloat64).put(UINT64_MAX / 8 + 2).zeros(16);
  EXPECT_NE(error_of(array.bytes).find("too long"), std::string::npos);  // 8 · n wraps to 8
}

TEST(Gguf, QuotesHostileNamesSafely) {
  FileBuilder file;
  file.raw("GGUF").put<uint32_t>(3).put<uint64_t>(1).put<uint64_t>(0);
  file.text(std::string(5000, '\xff') + "\n").put<uint32_t>(9);
  const std::string error = error_of(file.bytes);
  ASSERT_FALSE(error.empty());
  EXPECT_LT(error.size(), 400u);
  EXPECT_EQ(error.find('\xff'), std::string::npos);
}

}  // namespace
}  // namespace pf::weights
