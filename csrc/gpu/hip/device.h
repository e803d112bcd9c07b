// The words of gpu.h in HIP. There is no tensor-core tile yet: MFMA and WMMA fragments are laid out in another way than
// mma.sync's. Asynchronous copies are plain ones, which the waits and barriers of the same source order as well.
#pragma once
#include <hip/hip_runtime.h>

#include <stdexcept>
#include <string>

#define GPU_KERNEL(threads) __global__ __launch_bounds__(threads)
#define GPU_DEVICE __device__ __forceinline__
#define GPU_UNROLL _Pragma("unroll")
#define GPU_SHARED(type, name, dims) __shared__ type name dims
#define GPU_DYNAMIC_SHARED(type, name)             \
  extern __shared__::pf::gpu::Vec16 gpu_dynamic[]; \
  type* const name = reinterpret_cast<type*>(gpu_dynamic)
#define GPU_LAUNCH(kernel, grid, threads, bytes, stream, ...)                                        \
  do {                                                                                               \
    const ::pf::gpu::Dim3 gpu_grid = grid;                                                           \
    kernel<<<dim3(gpu_grid.x, gpu_grid.y, gpu_grid.z), dim3(threads), bytes, stream>>>(__VA_ARGS__); \
    ::pf::gpu::check(hipGetLastError(), #kernel);                                                    \
  } while (0)
#define GPU_PLANTED(name) false
#define GPU_HAS_MMA 0
#define GPU_HAS_FP8_MMA 0

namespace pf::gpu {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
using Stream = hipStream_t;

// Only the emulator wants to know where a word stands.
struct Site {
  static constexpr __host__ __device__ Site current() { return {}; }
};

inline void check(hipError_t error, const char* what) {
  if (error != hipSuccess) throw std::runtime_error(std::string(what) + ": " + hipGetErrorString(error));
}

// In host code the constant stands for nothing: launch shapes of ours are in threads, not in warps.
#if defined(__GFX9__) || !defined(__HIP_DEVICE_COMPILE__)
constexpr int kWarp = 64;
#else
constexpr int kWarp = 32;
#endif

GPU_DEVICE unsigned thread_x() { return threadIdx.x; }
GPU_DEVICE unsigned threads_x() { return blockDim.x; }
GPU_DEVICE unsigned block_x() { return blockIdx.x; }
GPU_DEVICE unsigned block_y() { return blockIdx.y; }
GPU_DEVICE unsigned block_z() { return blockIdx.z; }
GPU_DEVICE unsigned grid_x() { return gridDim.x; }
GPU_DEVICE int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }
GPU_DEVICE int warp_id() { return static_cast<int>(threadIdx.x) / kWarp; }

GPU_DEVICE int opaque(int value) {
  asm volatile("" : "+v"(value));
  return value;
}

GPU_DEVICE void block_sync() { __syncthreads(); }
GPU_DEVICE void warp_sync() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
GPU_DEVICE void fence() { __threadfence(); }
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
GPU_DEVICE int popcount(uint64_t bits) { return __popcll(bits); }

template <class T>
GPU_DEVICE T atomic_add(T* p, T value) {
  return atomicAdd(p, value);
}
template <class T>
GPU_DEVICE T atomic_max(T* p, T value) {
  return atomicMax(p, value);
}
template <class T>
GPU_DEVICE T atomic_min(T* p, T value) {
  return atomicMin(p, value);
}
template <class T>
GPU_DEVICE T atomic_or(T* p, T value) {
  return atomicOr(p, value);
}
template <class T>
GPU_DEVICE T atomic_exchange(T* p, T value) {
  return atomicExch(p, value);
}
template <class T>
GPU_DEVICE T atomic_compare_exchange(T* p, T expected, T value) {
  return atomicCAS(p, expected, value);
}
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
