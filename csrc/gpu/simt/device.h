// The words of gpu.h as the emulator understands them. PF_SIMT_GFX is the AMD GPU that it plays: 90 (gfx90a), 942 or
// 1100; 0 is one of NVIDIA's.
#pragma once
#include "intrinsics.h"

#ifndef PF_SIMT_GFX
#define PF_SIMT_GFX 0
#endif

#define GPU_KERNEL(...)
#define GPU_DEVICE inline
#define GPU_UNROLL
#define GPU_SHARED(type, name, dims)              \
  static const char name##_key = 0;               \
  using name##_type = type dims;                  \
  name##_type& name = *static_cast<name##_type*>( \
      ::pf::simt::shared_array(&name##_key, sizeof(name##_type), #name, ::pf::simt::Where::current()))
#define GPU_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::pf::simt::dynamic_shared(::pf::simt::Where::current()))
#define GPU_LAUNCH(kernel, grid, threads, bytes, stream, ...)                                                 \
  (stream)->launch(&kernel, #kernel, ::pf::gpu::kWarp, grid, ::pf::gpu::Dim3{static_cast<unsigned>(threads)}, \
                   bytes __VA_OPT__(, ) __VA_ARGS__)
#define GPU_PLANTED(name) (::pf::simt::planted(name))
#define GPU_HAS_MMA (PF_SIMT_GFX == 0)
#define GPU_AMD_TILES (PF_SIMT_GFX != 0)
#define GPU_WMMA (PF_SIMT_GFX == 1100)
#define GPU_HAS_FP8_MMA (PF_SIMT_GFX == 0 || PF_SIMT_GFX == 942)
#define GPU_HAS_BULK (PF_SIMT_GFX == 0)

namespace pf::gpu {

using Dim3 = simt::Dim3;
using Stream = simt::Device*;
// Where a word stands in the source: what reports and mutants go by.
using Site = simt::Where;

constexpr int kWarp = PF_SIMT_GFX == 90 || PF_SIMT_GFX == 942 ? 64 : 32;

inline unsigned thread_x() { return simt::thread_x(); }
inline unsigned threads_x() { return simt::threads_x(); }
inline unsigned block_x() { return simt::block_index().x; }
inline unsigned block_y() { return simt::block_index().y; }
inline unsigned block_z() { return simt::block_index().z; }
inline unsigned grid_x() { return simt::grid_size().x; }
inline int lane_id() { return static_cast<int>(simt::thread_x()) % kWarp; }
inline int warp_id() { return static_cast<int>(simt::thread_x()) / kWarp; }

inline int opaque(int value) { return value; }

inline void block_sync(Site at = Site::current()) { simt::block_sync(at); }
inline void warp_sync(Site at = Site::current()) { simt::warp_sync(at); }
inline void fence(Site at = Site::current()) { simt::fence(at); }
inline void spin(Site at = Site::current()) { simt::spin(at); }

template <class T>
T shuffle(T value, int lane, Site at = Site::current()) {
  simt::shuffle(&value, sizeof value, lane, at);
  return value;
}
template <class T>
T shuffle_xor(T value, int mask, Site at = Site::current()) {
  return gpu::shuffle(value, lane_id() ^ mask, at);
}
// Beyond the last lane, the own value.
template <class T>
T shuffle_down(T value, int delta, Site at = Site::current()) {
  const int lane = lane_id() + delta;
  return gpu::shuffle(value, lane < kWarp ? lane : lane_id(), at);
}
inline uint64_t ballot(bool predicate, Site at = Site::current()) { return simt::ballot(predicate, at); }
inline int popcount(uint64_t bits) { return __builtin_popcountll(bits); }

template <class T>
T atomic_add(T* p, T value, Site at = Site::current()) {
  return simt::atomic<T>(simt::AtomicOp::kAdd, p, value, T{}, at);
}
template <class T>
T atomic_max(T* p, T value, Site at = Site::current()) {
  return simt::atomic<T>(simt::AtomicOp::kMax, p, value, T{}, at);
}
template <class T>
T atomic_min(T* p, T value, Site at = Site::current()) {
  return simt::atomic<T>(simt::AtomicOp::kMin, p, value, T{}, at);
}
template <class T>
T atomic_or(T* p, T value, Site at = Site::current()) {
  return simt::atomic<T>(simt::AtomicOp::kOr, p, value, T{}, at);
}
template <class T>
T atomic_exchange(T* p, T value, Site at = Site::current()) {
  return simt::atomic<T>(simt::AtomicOp::kExchange, p, value, T{}, at);
}
template <class T>
T atomic_compare_exchange(T* p, T expected, T value, Site at = Site::current()) {
  return simt::atomic<T>(simt::AtomicOp::kCompareExchange, p, value, expected, at);
}
template <class T>
T load_acquire(const T* p, Site at = Site::current()) {
  return simt::load_acquire(p, at);
}
template <class T>
void store_release(T* p, T value, Site at = Site::current()) {
  simt::store_release(p, value, at);
}

template <class V>
V load_vec(const void* p, Site at = Site::current()) {
  V value;
  simt::read_vector(&value, p, sizeof value, at);
  return value;
}
template <class V>
void store_vec(void* p, V value, Site at = Site::current()) {
  simt::write_vector(p, &value, sizeof value, at);
}
template <class V>
void store_shared(void* p, V value, Site at = Site::current()) {
  simt::write_shared_vector(p, &value, sizeof value, at);
}

template <int kBytes>
void copy_async(void* shared, const void* global, bool valid = true, Site at = Site::current()) {
  simt::copy_async(shared, global, kBytes, valid ? kBytes : 0, at);
}
inline void copy_async_commit() { simt::copy_async_commit(); }
template <int kGroupsLeft>
void copy_async_wait(Site at = Site::current()) {
  simt::copy_async_wait(kGroupsLeft, at);
}

#if GPU_HAS_BULK
inline bool has_bulk() { return simt::has_bulk(); }
struct Mbarrier {
  uint64_t state;
};
inline void barrier_init(Mbarrier* barrier, int arrivals, Site at = Site::current()) {
  simt::barrier_init(barrier, arrivals, at);
}
inline void barrier_invalidate(Mbarrier* barrier, Site at = Site::current()) { simt::barrier_invalidate(barrier, at); }
inline void barrier_arrive(Mbarrier* barrier, Site at = Site::current()) { simt::barrier_arrive(barrier, 0, at); }
inline void barrier_arrive_expect(Mbarrier* barrier, int bytes, Site at = Site::current()) {
  simt::barrier_arrive(barrier, bytes, at);
}
inline bool barrier_try_wait(Mbarrier* barrier, unsigned parity, Site at = Site::current()) {
  return simt::barrier_wait(barrier, parity, false, at);
}
inline void barrier_wait(Mbarrier* barrier, unsigned parity, Site at = Site::current()) {
  simt::barrier_wait(barrier, parity, true, at);
}
inline void fence_async(Site at = Site::current()) { simt::fence_async(at); }
inline void copy_bulk(void* shared, const void* global, int bytes, Mbarrier* barrier, Site at = Site::current()) {
  simt::copy_bulk(shared, global, static_cast<size_t>(bytes), barrier, at);
}
inline void store_bulk(void* global, const void* shared, int bytes, Site at = Site::current()) {
  simt::store_bulk(global, shared, static_cast<size_t>(bytes), at);
}
inline void store_bulk_commit() { simt::store_bulk_commit(); }
template <int kGroupsLeft>
void store_bulk_wait_read(Site at = Site::current()) {
  simt::store_bulk_wait(kGroupsLeft, true, at);
}
template <int kGroupsLeft>
void store_bulk_wait(Site at = Site::current()) {
  simt::store_bulk_wait(kGroupsLeft, false, at);
}
#endif

inline bool has_fp8_mma() { return GPU_HAS_FP8_MMA; }

#if GPU_AMD_TILES
constexpr int kMaxShared = 64 * 1024;
inline int warp_lanes() { return kWarp; }
#if GPU_WMMA
using simt::AmdMatrix;
constexpr int kI8Depth = 16;
constexpr AmdMatrix kF16 = AmdMatrix::kWmmaF16, kBf16 = AmdMatrix::kWmmaBf16, kI8 = AmdMatrix::kWmmaI8;
#else
using simt::AmdMatrix;
constexpr int kI8Depth = PF_SIMT_GFX == 942 ? 32 : 16;
constexpr AmdMatrix kF16 = AmdMatrix::kMfmaF16, kBf16 = AmdMatrix::kMfmaBf16,
                    kI8 = kI8Depth == 32 ? AmdMatrix::kMfmaI8Deep : AmdMatrix::kMfmaI8;
#endif
template <class D, class Operand>
void matrix_f16(D& d, const Operand& a, const Operand& b, Site at = Site::current()) {
  simt::amd_matrix(kF16, d, a, b, at);
}
template <class D, class Operand>
void matrix_bf16(D& d, const Operand& a, const Operand& b, Site at = Site::current()) {
  simt::amd_matrix(kBf16, d, a, b, at);
}
template <class D, class Operand>
void matrix_i8(D& d, const Operand& a, const Operand& b, Site at = Site::current()) {
  simt::amd_matrix(kI8, d, a, b, at);
}
template <class D, class Operand>
void matrix_fp8(D& d, const Operand& a, const Operand& b, Site at = Site::current()) {
  simt::amd_matrix(AmdMatrix::kMfmaFp8, d, a, b, at);
}
#else
template <int kMatrices>
void load_matrix(uint32_t (&fragment)[kMatrices], const void* row, Site at = Site::current()) {
  simt::load_matrix(fragment, kMatrices, false, row, at);
}
template <int kMatrices>
void load_matrix_transposed(uint32_t (&fragment)[kMatrices], const void* row, Site at = Site::current()) {
  simt::load_matrix(fragment, kMatrices, true, row, at);
}

template <class T>
constexpr simt::MmaType kMmaType = simt::MmaType::kF16;
template <>
inline constexpr simt::MmaType kMmaType<bf16> = simt::MmaType::kBF16;
template <>
inline constexpr simt::MmaType kMmaType<int8_t> = simt::MmaType::kS8;
template <>
inline constexpr simt::MmaType kMmaType<e4m3> = simt::MmaType::kE4M3;

// D is float, or int32_t if T is int8_t.
template <class T, class D>
void mma(D (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site at = Site::current()) {
  simt::mma(kMmaType<T>, d, a, b, at);
}
#endif

}  // namespace pf::gpu
