#include "ops/cpu/half.h"

#include <gtest/gtest.h>

#include <cmath>

TEST(Half, RoundTripsEveryFiniteHalf) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    if ((h & 0x7c00u) == 0x7c00u && (h & 0x3ffu) != 0) continue;  // NaN
    EXPECT_EQ(pf::float_to_half(pf::half_to_float(static_cast<uint16_t>(h))), h);
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(pf::float_to_half(1.0f + 1.0f / 2048), 0x3c00);  // tie goes to even
  EXPECT_EQ(pf::float_to_half(1.0f + 3.0f / 2048), 0x3c02);
  EXPECT_EQ(pf::float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(pf::float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(pf::float_to_half(std::ldexp(1.0f, -25)), 0x0000);
  EXPECT_EQ(pf::float_to_half(std::ldexp(1.5f, -25)), 0x0001);
}
