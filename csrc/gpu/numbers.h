// The number formats that kernels read and write, on every backend and on the host: plain bits and their conversions.
//
//   f16    IEEE half            bf16   bfloat16            e4m3   8-bit float of the OCP specification, without
//   infinity
//
// Conversions from float round to nearest even; what e4m3 cannot hold becomes its largest value (448), NaN stays NaN.
#pragma once
#include <stdint.h>
#include <string.h>

#include "../ops/cpu/half.h"

#if defined(__HIPCC__) || defined(__HIP__)
#include <hip/hip_runtime.h>
#endif

#if defined(__CUDACC__) || defined(__HIPCC__) || defined(__HIP__)
#define GPU_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define GPU_HOST_DEVICE inline
#endif

namespace pf::gpu {

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};
struct e4m3 {
  uint8_t bits;
};

namespace detail {

GPU_HOST_DEVICE float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
GPU_HOST_DEVICE uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

}  // namespace detail

GPU_HOST_DEVICE float to_float(float value) { return value; }

GPU_HOST_DEVICE float to_float(int8_t value) { return static_cast<float>(value); }

GPU_HOST_DEVICE float to_float(bf16 value) { return detail::as_float(static_cast<uint32_t>(value.bits) << 16); }

GPU_HOST_DEVICE float to_float(f16 value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#elif defined(__HIP_DEVICE_COMPILE__)
  return static_cast<float>(__builtin_bit_cast(_Float16, value.bits));
#else
  return half_to_float(value.bits);
#endif
}

GPU_HOST_DEVICE float to_float(e4m3 value) {
  const uint32_t magnitude = value.bits & 0x7fu, sign = static_cast<uint32_t>(value.bits & 0x80u) << 24;
  if (magnitude == 0x7f) return detail::as_float(sign | 0x7fc00000u);
  // Shifted into a float's exponent and mantissa the bits are right but for the bias: 127 - 7 = 120.
  return detail::as_float(sign | detail::as_bits(detail::as_float(magnitude << 20) * 0x1p120f));
}

template <class T>
GPU_HOST_DEVICE T from_float(float value);

template <>
GPU_HOST_DEVICE float from_float<float>(float value) {
  return value;
}

template <>
GPU_HOST_DEVICE bf16 from_float<bf16>(float value) {
#if defined(__CUDA_ARCH__)
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  const uint32_t bits = detail::as_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};  // NaN stays NaN
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
#endif
}

template <>
GPU_HOST_DEVICE f16 from_float<f16>(float value) {
#if defined(__CUDA_ARCH__)
  f16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#elif defined(__HIP_DEVICE_COMPILE__)
  return {__builtin_bit_cast(uint16_t, static_cast<_Float16>(value))};
#else
  return {float_to_half(value)};
#endif
}

template <>
GPU_HOST_DEVICE e4m3 from_float<e4m3>(float value) {
  const uint32_t bits = detail::as_bits(value), sign = (bits >> 24) & 0x80u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint8_t>(sign | 0x7fu)};
  if (magnitude > 0x43e00000u) magnitude = 0x43e00000u;  // 448
  if (magnitude < 0x3c800000u) {
    // Below 2^-6 values are multiples of 2^-9; adding 2^14 leaves no finer bits in a float, and rounds to even.
    const float shifted = detail::as_float(magnitude) + 0x1p14f;
    return {static_cast<uint8_t>(sign | (detail::as_bits(shifted) - detail::as_bits(0x1p14f)))};
  }
  magnitude += 0x7ffffu + ((magnitude >> 20) & 1u);
  return {static_cast<uint8_t>(sign | ((magnitude >> 20) - (120u << 3)))};
}

template <class T>
constexpr bool kIsBf16 = false;
template <>
inline constexpr bool kIsBf16<bf16> = true;

// Two numbers of a 16-bit type in one register, `low` in the low half.
template <class T>
GPU_HOST_DEVICE uint32_t pack_pair(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t pair;
  if constexpr (kIsBf16<T>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#else
  return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
#endif
}

// Sixteen bytes: what one lane loads or stores at once where it can.
struct alignas(16) Vec16 {
  uint32_t words[4];
};

// Elements of a vector, the first in the lowest bits.
template <class T>
constexpr int kPerVec = 16 / static_cast<int>(sizeof(T));

template <class T>
GPU_HOST_DEVICE void unpack(const Vec16& vec, float (&values)[kPerVec<T>]) {
  T elements[kPerVec<T>];
  memcpy(elements, &vec, 16);
  for (int i = 0; i < kPerVec<T>; ++i) values[i] = to_float(elements[i]);
}

// GPUs convert an integer in the time of four additions, or of eight. A byte in the last bits of 2^23 is that much
// more.
template <>
GPU_HOST_DEVICE void unpack<int8_t>(const Vec16& vec, float (&values)[16]) {
  for (int i = 0; i < 16; ++i) {
    const uint32_t biased = (vec.words[i / 4] ^ 0x80808080u) >> (8 * (i % 4)) & 0xffu;  // the value + 128
    values[i] = detail::as_float(0x4b000000u | biased) - (0x1p23f + 128.0f);
  }
}

template <class T>
GPU_HOST_DEVICE Vec16 pack(const float (&values)[kPerVec<T>]) {
  T elements[kPerVec<T>];
  for (int i = 0; i < kPerVec<T>; ++i) elements[i] = from_float<T>(values[i]);
  Vec16 vec;
  memcpy(&vec, elements, 16);
  return vec;
}

}  // namespace pf::gpu
