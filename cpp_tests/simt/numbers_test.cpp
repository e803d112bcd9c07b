// The number formats: every code of the small ones, and rounding at and around every midpoint between two of them.
#include "gpu/numbers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pf::gpu {
namespace {

TEST(Numbers, E4m3HasTheValuesOfTheSpecification) {
  EXPECT_EQ(to_float(e4m3{0x00}), 0.0f);
  EXPECT_EQ(to_float(e4m3{0x01}), 0x1p-9f);
  EXPECT_EQ(to_float(e4m3{0x07}), 7 * 0x1p-9f);
  EXPECT_EQ(to_float(e4m3{0x08}), 0x1p-6f);
  EXPECT_EQ(to_float(e4m3{0x38}), 1.0f);
  EXPECT_EQ(to_float(e4m3{0xb9}), -1.125f);
  EXPECT_EQ(to_float(e4m3{0x7e}), 448.0f);
  EXPECT_TRUE(std::isnan(to_float(e4m3{0x7f})));
  EXPECT_TRUE(std::isnan(to_float(e4m3{0xff})));
}

TEST(Numbers, E4m3RoundsToTheNearestAndAtMidpointsToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = to_float(e4m3{static_cast<uint8_t>(code)}), high = to_float(e4m3{static_cast<uint8_t>(code + 1)});
    const float middle = (low + high) / 2;
    EXPECT_EQ(from_float<e4m3>(low).bits, code);
    EXPECT_EQ(from_float<e4m3>(middle).bits, code % 2 == 0 ? code : code + 1) << code;
    EXPECT_EQ(from_float<e4m3>(std::nextafter(middle, 0.0f)).bits, code) << code;
    EXPECT_EQ(from_float<e4m3>(std::nextafter(middle, 1e9f)).bits, code + 1) << code;
    EXPECT_EQ(from_float<e4m3>(-high).bits, 0x80 | (code + 1));
  }
  EXPECT_EQ(from_float<e4m3>(1e30f).bits, 0x7e);
  EXPECT_EQ(from_float<e4m3>(-std::numeric_limits<float>::infinity()).bits, 0xfe);
  EXPECT_EQ(from_float<e4m3>(std::nanf("")).bits & 0x7f, 0x7f);
}

TEST(Numbers, Bf16RoundsToEvenAndKeepsNan) {
  EXPECT_EQ(from_float<bf16>(1.0f).bits, 0x3f80);
  EXPECT_EQ(from_float<bf16>(1.0f + 0x1p-8f).bits, 0x3f80);
  EXPECT_EQ(from_float<bf16>(1.0f + 3 * 0x1p-8f).bits, 0x3f82);
  EXPECT_EQ(from_float<bf16>(1.0f + 0x1.8p-8f).bits, 0x3f81);
  EXPECT_TRUE(std::isnan(to_float(from_float<bf16>(std::nanf("")))));
  EXPECT_EQ(to_float(from_float<bf16>(std::numeric_limits<float>::max())), std::numeric_limits<float>::infinity());
}

TEST(Numbers, VectorsKeepTheOrderOfTheirElements) {
  float values[8], back[8];
  for (int i = 0; i < 8; ++i) values[i] = static_cast<float>(i);
  const Vec16 vec = pack<f16>(values);
  EXPECT_EQ(vec.words[0], 0x3c000000u);  // 0, 1
  unpack<f16>(vec, back);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(back[i], values[i]);
}

}  // namespace
}  // namespace pf::gpu
