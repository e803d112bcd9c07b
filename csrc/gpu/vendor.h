// What CUDA and HIP have in common of gpu.h's words: their functions bear the same names, those of the host behind
// another prefix.
#pragma once
#if defined(__HIPCC__) || defined(__HIP__)
#include <hip/hip_runtime.h>
#define PF_API(name) hip##name
// A second number would be waves of a SIMD, for which clang spends registers that it does not need.
#define GPU_KERNEL(threads, ...) __global__ __launch_bounds__(threads)
#else
#include <cuda_runtime.h>
#define PF_API(name) cuda##name
#define GPU_KERNEL(...) __global__ __launch_bounds__(__VA_ARGS__)
#endif

#include <stdexcept>
#include <string>

#define GPU_DEVICE __device__ __forceinline__
#define GPU_UNROLL _Pragma("unroll")
#define GPU_SHARED(type, name, dims) __shared__ type name dims
#define GPU_DYNAMIC_SHARED(type, name)             \
  extern __shared__::pf::gpu::Vec16 gpu_dynamic[]; \
  type* const name = reinterpret_cast<type*>(gpu_dynamic)
#define GPU_LAUNCH(kernel, grid, threads, bytes, stream, ...)                                        \
  do {                                                                                               \
    ::pf::gpu::prepare_launch(reinterpret_cast<const void*>(&kernel), bytes);                        \
    const ::pf::gpu::Dim3 gpu_grid = grid;                                                           \
    kernel<<<dim3(gpu_grid.x, gpu_grid.y, gpu_grid.z), dim3(threads), bytes, stream>>>(__VA_ARGS__); \
    ::pf::gpu::check(PF_API(GetLastError)(), #kernel);                                               \
  } while (0)
#define GPU_PLANTED(name) false

namespace pf::gpu {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
using Stream = PF_API(Stream_t);

// Only the emulator wants to know where a word stands.
struct Site {
  static constexpr __host__ __device__ Site current() { return {}; }
};

inline void check(PF_API(Error_t) error, const char* what) {
  if (error != PF_API(Success)) throw std::runtime_error(std::string(what) + ": " + PF_API(GetErrorString)(error));
}

// In host code of HIP the constant stands for nothing: launch shapes of ours are in threads, not in warps.
#if defined(__GFX9__) || (defined(__HIP__) && !defined(__HIP_DEVICE_COMPILE__))
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

GPU_DEVICE void block_sync() { __syncthreads(); }
GPU_DEVICE void fence() { __threadfence(); }
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

}  // namespace pf::gpu
