#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include "weight_files.h"
#include "weights/json_cursor.h"

namespace pf::weights {
namespace {

using testing::Bytes;
using testing::safetensors;

std::string error_of(const Bytes& file) {
  try {
    SafetensorsHeader::parse(file);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

TEST(Safetensors, ReadsMetadataAndTensors) {
  const Bytes file = testing::small_safetensors();
  const SafetensorsHeader header = SafetensorsHeader::parse(file);
  ASSERT_EQ(header.metadata.size(), 1u);
  EXPECT_EQ(header.metadata[0], (std::pair<std::string, std::string>{"format", "pt"}));
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(header.tensors[1].name, "b\xc3\xa9\n");
  EXPECT_EQ(header.tensors[1].type, "BF16");
  EXPECT_EQ(header.tensors[1].offset + header.tensors[1].nbytes, file.size());
}

TEST(Safetensors, AcceptsScalarsAndEmptyTensors) {
  const Bytes file = safetensors(
      R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}})",
      4);
  EXPECT_EQ(error_of(file), "");
}

TEST(Safetensors, RefusesWrongPlaces) {
  const auto one = [](std::string_view shape, std::string_view offsets, size_t data) {
    return safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":" + std::string(shape) +
                           ",\"data_offsets\":" + std::string(offsets) + "}}",
                       data);
  };
  EXPECT_EQ(error_of(one("[2]", "[0,8]", 8)), "");
  EXPECT_NE(error_of(one("[2]", "[0,8]", 7)).find("truncated"), std::string::npos);
  EXPECT_NE(error_of(one("[2]", "[0,8]", 9)).find("follow the header"), std::string::npos);
  EXPECT_NE(error_of(one("[2]", "[1,9]", 9)).find("gap"), std::string::npos);
  EXPECT_NE(error_of(one("[2]", "[0,4]", 4)).find("contradicts"), std::string::npos);
  EXPECT_NE(error_of(one("[2]", "[8,0]", 8)).find("offsets"), std::string::npos);
  EXPECT_NE(error_of(one("[2]", "[0,8,8]", 8)).find("offsets"), std::string::npos);
  EXPECT_NE(error_of(one("[4611686018427387904,4]", "[0,0]", 0)).find("contradicts"), std::string::npos);  // wraps to 0
  EXPECT_NE(error_of(one("[2]", "[0,99999999999999999999]", 8)).find("64 bits"), std::string::npos);
}

TEST(Safetensors, RefusesOverlapsRepetitionsAndUnknownTypes) {
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  EXPECT_NE(
      error_of(safetensors("{" + a + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12)).find("overlap"),
      std::string::npos);
  EXPECT_NE(error_of(safetensors("{" + a + "," + a + "}", 8)).find("twice"), std::string::npos);
  EXPECT_NE(error_of(safetensors(R"({"a":{"dtype":"F99","shape":[],"data_offsets":[0,1]}})", 1)).find("F99"),
            std::string::npos);
  EXPECT_NE(error_of(safetensors(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"more":1}})", 4)).find("more"),
            std::string::npos);
}

TEST(Safetensors, BoundsTheHeader) {
  EXPECT_NE(error_of(testing::FileBuilder().put<uint64_t>(UINT64_MAX).zeros(8).bytes).find("limit"), std::string::npos);
  EXPECT_NE(error_of(testing::FileBuilder().put<uint64_t>(100).zeros(8).bytes).find("ends inside"), std::string::npos);
}

TEST(JsonCursor, IsStrict) {
  for (const std::string_view bad : {"", "{", "{}}", "[]", "{\"a\"}", "{\"a\":}", "{,}", "{\"a\":\"b\",}",
                                     "{\"a\":\"\\x\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\ud800\\u0041\"}",
                                     "{\"a\":\"\\udc00\"}", "{\"a\":\"\n\"}", "{\"a\":1}", "{'a':'b'}", "{\"a\":\"b"}) {
    JsonCursor json(bad);
    EXPECT_THROW(
        {
          json.object([&](const std::string&) { json.string(); });
          json.expect_end();
        },
        FormatError)
        << bad;
  }
  for (const std::string_view bad : {"", "-1", "01", "+1", "18446744073709551616"}) {
    EXPECT_THROW(JsonCursor(bad).integer(), FormatError) << bad;
  }
  EXPECT_EQ(JsonCursor("18446744073709551615").integer(), UINT64_MAX);
  EXPECT_EQ(JsonCursor(R"("\"\\\/\b\f\n\r\t\u00DF\u20ac\ud83d\uDE42")").string(), "\"\\/\b\f\n\r\tß€🙂");
}

}  // namespace
}  // namespace pf::weights
