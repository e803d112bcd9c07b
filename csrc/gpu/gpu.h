// The one header of every GPU kernel. The same source becomes CUDA, HIP, or C++ that the emulator runs; which one is
// decided here, and nothing outside this folder names a vendor.
//
//   template <class T>
//   GPU_KERNEL(kThreads) void scale(T* x, float by, int64_t n) {
//     const int64_t i = int64_t{block_x()} * kThreads + thread_x();
//     if (i < n) x[i] = from_float<T>(to_float(x[i]) * by);
//   }
//   GPU_LAUNCH(scale<T>, (Dim3{blocks}), kThreads, 0, stream, x, 2.0f, n);    // commas of <> and {} need parentheses
//
// The words, defined by each backend's device.h:
//   GPU_KERNEL(threads) GPU_DEVICE GPU_UNROLL      declarations; `threads` is the largest block, and
//                                                  a second number asks for registers that let so many run at once
//   GPU_SHARED(type, name, dims)                   an array of the block, as in GPU_SHARED(float, tile, [4][64])
//   GPU_DYNAMIC_SHARED(type, name)                 the array whose bytes the launch gives
//   GPU_LAUNCH(kernel, grid, threads, bytes, stream, ...)   throws std::runtime_error when the launch is refused
//   GPU_PLANTED("name")                            false, but for a test that wants to see a mistake found
//   Site::current()                                as a default argument: the caller's line, for the emulator's reports
//   thread_x() threads_x() block_x() block_y() block_z() grid_x() lane_id() warp_id()
//   opaque(i)                                      i; what depends on it is not computed before a loop, to save
//                                                  registers
//   kWarp                                          lanes of a warp, a constant of the target and never a literal
//   block_sync() warp_sync() fence() spin()        fence orders memory for the whole device
//   shuffle(v, lane) shuffle_xor(v, mask) shuffle_down(v, delta) ballot(p)     of a whole warp
//   popcount(bits)
//   atomic_add atomic_max atomic_min atomic_or atomic_exchange atomic_compare_exchange    integers; without order
//   load_acquire(p) store_release(p, v)
//   load_vec<V>(p)                                 one access of sizeof(V) = 4, 8 or 16 bytes, so aligned
//   store_vec(p, v) store_shared(p, v)             likewise, to global memory; to shared memory, of 16 bytes
//   copy_async<16>(shared, global, valid)  copy_async_commit()  copy_async_wait<n>()      zeros where not valid; 16
//                                                                                         bytes, or 4 where GPU_HAS_MMA
//   GPU_HAS_BULK and, where it is 1 (sm_90 and later), an Mbarrier of shared memory and bulk copies, whose addresses
//   and sizes are multiples of 16. has_bulk() is true but where the emulator plays an older GPU.
//     barrier_init(b, arrivals) barrier_invalidate(b)       by one thread; the others come after a block_sync()
//     barrier_arrive(b) barrier_arrive_expect(b, bytes)     a phase ends with the last arrival and the last byte
//     barrier_wait(b, parity) barrier_try_wait(b, parity)   until the phase of this parity, 0 first, has ended; a new
//                                                           barrier's phase of parity 1 counts as ended
//     fence_async()                                         stores before it, and barrier_init, are visible to copies
//     copy_bulk(shared, global, bytes, b)                   lands with the phase
//     store_bulk(global, shared, bytes) store_bulk_commit() store_bulk_wait<n>()
//     store_bulk_wait_read<n>()                             until shared memory may be written again
//   GPU_HAS_MMA and, where it is 1: load_matrix(fragment, row) load_matrix_transposed mma<T>(d, a, b)   see
//   simt/matrix.cpp
//   GPU_HAS_FP8_MMA                                whether there is mma<e4m3>; the host asks has_fp8_mma()
//
// Shuffles move values and order no memory. Float atomics are left out: their sums would depend on the schedule.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "numbers.h"

#if defined(__HIPCC__) || defined(__HIP__)
#include "hip/device.h"
#elif defined(__CUDACC__)
#include "cuda/device.h"
#else
#include "simt/device.h"
#endif

namespace pf::gpu {

// The sum, or the largest, over a warp, in every lane: a tree whose shape depends on nothing.
GPU_DEVICE float warp_sum(float value) {
  GPU_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
GPU_DEVICE float warp_max(float value) {
  GPU_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

}  // namespace pf::gpu
