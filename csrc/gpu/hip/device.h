// The words of gpu.h in HIP. GPU_HAS_MMA is 0, for there is nothing like mma.sync and ldmatrix themselves; tiles.h has
// what both vendors can. Asynchronous copies are plain ones, which the waits and barriers of the same source order
// as well.
#pragma once
#include "../vendor.h"

#define GPU_HAS_MMA 0
#define GPU_AMD_TILES 1
#if defined(__HIP_DEVICE_COMPILE__) && !defined(__GFX9__)
#define GPU_WMMA 1
#else
#define GPU_WMMA 0
#endif
#if defined(__HIP_DEVICE_COMPILE__) && !defined(__gfx942__)
#define GPU_HAS_FP8_MMA 0
#else
#define GPU_HAS_FP8_MMA 1
#endif
#define GPU_HAS_BULK 0

namespace pf::gpu {

constexpr int kMaxShared = 64 * 1024;

inline int attribute_of_device(hipDeviceAttribute_t attribute) {
  int device = 0, value = 0;
  check(hipGetDevice(&device), "the current device");
  check(hipDeviceGetAttribute(&value, attribute, device), "an attribute of the device");
  return value;
}
inline int warp_lanes() { return attribute_of_device(hipDeviceAttributeWarpSize); }
inline bool has_fp8_mma() {  // gfx942 is 9.4
  return attribute_of_device(hipDeviceAttributeComputeCapabilityMajor) == 9 &&
         attribute_of_device(hipDeviceAttributeComputeCapabilityMinor) == 4;
}

// Shared memory is given to a launch as it is asked for, up to the 64 KiB that there are.
inline void prepare_launch(const void*, size_t) {}

GPU_DEVICE int opaque(int value) {
  asm volatile("" : "+v"(value));
  return value;
}

GPU_DEVICE void warp_sync() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
GPU_DEVICE void spin() { __builtin_amdgcn_s_sleep(1); }

template <class T>
GPU_DEVICE T shuffle(T value, int lane) {
  return __shfl(value, lane);
}
template <class T>
GPU_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor(value, mask);
}
template <class T>
GPU_DEVICE T shuffle_down(T value, int delta) {
  return __shfl_down(value, static_cast<unsigned>(delta));
}
GPU_DEVICE uint64_t ballot(bool predicate) { return __ballot(predicate); }

template <class T>
GPU_DEVICE T load_acquire(const T* p) {
  return __hip_atomic_load(p, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
}
template <class T>
GPU_DEVICE void store_release(T* p, T value) {
  __hip_atomic_store(p, value, __ATOMIC_RELEASE, __HIP_MEMORY_SCOPE_SYSTEM);
}

template <int kBytes>
struct NativeVec {
  typedef uint32_t type __attribute__((ext_vector_type(kBytes / 4)));
};
template <class V>
GPU_DEVICE V load_vec(const void* p, Site = {}) {
  return __builtin_bit_cast(V, *static_cast<const typename NativeVec<sizeof(V)>::type*>(p));
}
template <class V>
GPU_DEVICE void store_vec(void* p, V value, Site = {}) {
  *static_cast<typename NativeVec<sizeof(V)>::type*>(p) =
      __builtin_bit_cast(typename NativeVec<sizeof(V)>::type, value);
}
template <class V>
GPU_DEVICE void store_shared(void* p, V value, Site at = {}) {
  store_vec(p, value, at);
}

template <int kBytes>
GPU_DEVICE void copy_async(void* shared, const void* global, bool valid = true) {
  using V = std::conditional_t<kBytes == 16, Vec16, uint32_t>;
  static_assert(sizeof(V) == kBytes);
  store_vec(shared, valid ? load_vec<V>(global) : V{});
}
GPU_DEVICE void copy_async_commit() {}
template <int kGroupsLeft>
GPU_DEVICE void copy_async_wait() {}

// --- matrix instructions, see tiles.h ---

template <class Element, int kCount>
struct NativeOperand {
  typedef Element type __attribute__((ext_vector_type(kCount)));
};
template <class Native, class D, int kCount>
GPU_DEVICE Native native(const D (&values)[kCount]) {
  static_assert(sizeof(Native) == sizeof values);
  Native result;
  __builtin_memcpy(&result, values, sizeof result);
  return result;
}
template <class Native, class D, int kCount>
GPU_DEVICE void put(Native from, D (&values)[kCount]) {
  static_assert(sizeof(Native) == sizeof values);
  __builtin_memcpy(values, &from, sizeof from);
}

#if defined(__gfx942__)
constexpr int kI8Depth = 32;
#else
constexpr int kI8Depth = 16;
#endif

// The host never comes here, and does not know the instructions.
#if !defined(__HIP_DEVICE_COMPILE__)
#define PF_MATRIX(name, D, d_count, Element, count, instruction)                         \
  GPU_DEVICE void name(D(&)[d_count], const uint32_t (&)[sizeof(Element) * (count) / 4], \
                       const uint32_t (&)[sizeof(Element) * (count) / 4]) {}
#else
#define PF_MATRIX(name, D, d_count, Element, count, instruction)                           \
  GPU_DEVICE void name(D(&d)[d_count], const uint32_t (&a)[sizeof(Element) * (count) / 4], \
                       const uint32_t (&b)[sizeof(Element) * (count) / 4]) {               \
    using Operand = NativeOperand<Element, count>::type;                                   \
    using Sums = NativeOperand<D, d_count>::type;                                          \
    const Operand in_a = native<Operand>(a), in_b = native<Operand>(b);                    \
    const Sums sums = native<Sums>(d);                                                     \
    put(instruction, d);                                                                   \
  }
#endif
#if GPU_WMMA
PF_MATRIX(matrix_f16, float, 8, _Float16, 16, __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(in_a, in_b, sums))
PF_MATRIX(matrix_bf16, float, 8, short, 16, __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(in_a, in_b, sums))
PF_MATRIX(matrix_i8, int32_t, 8, int, 4,
          __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32(true, in_a, true, in_b, sums, false))
#else
PF_MATRIX(matrix_f16, float, 4, _Float16, 4, __builtin_amdgcn_mfma_f32_16x16x16f16(in_a, in_b, sums, 0, 0, 0))
PF_MATRIX(matrix_bf16, float, 4, short, 4, __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(in_a, in_b, sums, 0, 0, 0))
#if defined(__gfx942__)
PF_MATRIX(matrix_i8, int32_t, 4, long, 1, __builtin_amdgcn_mfma_i32_16x16x32_i8(in_a[0], in_b[0], sums, 0, 0, 0))
#else
PF_MATRIX(matrix_i8, int32_t, 4, int, 1, __builtin_amdgcn_mfma_i32_16x16x16i8(in_a[0], in_b[0], sums, 0, 0, 0))
#endif
#if GPU_HAS_FP8_MMA
PF_MATRIX(matrix_fp8, float, 4, long, 1, __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(in_a[0], in_b[0], sums, 0, 0, 0))
#endif
#endif
#undef PF_MATRIX

}  // namespace pf::gpu
