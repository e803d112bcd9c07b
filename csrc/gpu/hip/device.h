// The words of gpu.h in HIP. There is no tensor-core tile yet: MFMA and WMMA fragments are laid out in another way than
// mma.sync's. Asynchronous copies are plain ones, which the waits and barriers of the same source order as well.
#pragma once
#include "../vendor.h"

#define GPU_HAS_MMA 0
#define GPU_HAS_FP8_MMA 0
#define GPU_HAS_BULK 0

namespace pf::gpu {

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
  static_assert(kBytes == 16);
  store_vec(shared, valid ? load_vec<Vec16>(global) : Vec16{});
}
GPU_DEVICE void copy_async_commit() {}
template <int kGroupsLeft>
GPU_DEVICE void copy_async_wait() {}

}  // namespace pf::gpu
