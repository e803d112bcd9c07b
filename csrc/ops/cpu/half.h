// Scalar conversions between float and the two 16-bit formats, exact and rounding to nearest even, without hardware.
#pragma once
#include <stdint.h>
#include <string.h>

namespace pf {
namespace {

inline float bits_to_float(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline uint32_t float_to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

inline float bfloat_to_float(uint16_t h) { return bits_to_float(static_cast<uint32_t>(h) << 16); }

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  uint32_t mantissa = h & 0x3ffu;
  if (exponent == 31) return bits_to_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return bits_to_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
  if (mantissa == 0) return bits_to_float(sign);
  uint32_t e = 113;  // subnormal: shift the leading one into place
  while ((mantissa & 0x400u) == 0) {
    mantissa <<= 1;
    --e;
  }
  return bits_to_float(sign | (e << 23) | ((mantissa & 0x3ffu) << 13));
}

inline uint16_t float_to_half(float f) {
  const uint32_t u = float_to_bits(f);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
  if (a >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (a < 0x33000001u) return static_cast<uint16_t>(sign);             // rounds to zero
  const int32_t exponent = static_cast<int32_t>(a >> 23) - 112;
  const uint32_t mantissa = (a & 0x7fffffu) | 0x800000u;
  if (exponent <= 0) {  // subnormal half
    const int shift = 14 - exponent;
    const uint32_t q = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), tie = 1u << (shift - 1);
    return static_cast<uint16_t>(sign | (q + ((rest > tie || (rest == tie && (q & 1u))) ? 1u : 0u)));
  }
  const uint32_t q = (static_cast<uint32_t>(exponent) << 10) | ((a >> 13) & 0x3ffu);
  const uint32_t rest = a & 0x1fffu;
  return static_cast<uint16_t>(sign | (q + ((rest > 0x1000u || (rest == 0x1000u && (q & 1u))) ? 1u : 0u)));
}

}  // namespace
}  // namespace pf
