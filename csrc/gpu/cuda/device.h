// The words of gpu.h in CUDA. The only inline assembly of the project for NVIDIA's GPUs is here and in numbers.h.
#pragma once
#include "../vendor.h"

#define GPU_HAS_MMA 1
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#define GPU_HAS_FP8_MMA 1
#else
#define GPU_HAS_FP8_MMA 0
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define GPU_HAS_BULK 1
#else
#define GPU_HAS_BULK 0
#endif

namespace pf::gpu {

// More than 48 KiB of shared memory must be asked for.
inline void prepare_launch(const void* kernel, size_t bytes) {
  if (bytes <= 48 * 1024) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory of a kernel");
}

inline bool has_fp8_mma() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "the current device");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
  return major * 10 + minor >= 89;
}

constexpr unsigned kAllLanes = 0xffffffffu;

GPU_DEVICE int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

GPU_DEVICE void warp_sync() { __syncwarp(); }
GPU_DEVICE void spin() { __nanosleep(20); }

template <class T>
GPU_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <class T>
GPU_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <class T>
GPU_DEVICE T shuffle_down(T value, int delta) {
  return __shfl_down_sync(kAllLanes, value, static_cast<unsigned>(delta));
}
GPU_DEVICE uint64_t ballot(bool predicate) { return __ballot_sync(kAllLanes, predicate); }

template <class T>
GPU_DEVICE T load_acquire(const T* p) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(bits) : "l"(p) : "memory");
  return static_cast<T>(bits);
}
template <class T>
GPU_DEVICE void store_release(T* p, T value) {
  static_assert(sizeof(T) == 4);
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(static_cast<uint32_t>(value)) : "memory");
}

template <int kBytes>
struct NativeVec;
template <>
struct NativeVec<4> {
  using type = uint32_t;
};
template <>
struct NativeVec<8> {
  using type = uint2;
};
template <>
struct NativeVec<16> {
  using type = uint4;
};

template <class V>
GPU_DEVICE V load_vec(const void* p, Site = {}) {
  const auto native = *static_cast<const typename NativeVec<sizeof(V)>::type*>(p);
  V value;
  memcpy(&value, &native, sizeof value);
  return value;
}
// In assembly, since nvcc makes some such stores four of 4 bytes.
template <class V>
GPU_DEVICE void store_vec(void* p, V value, Site = {}) {
  uint32_t words[sizeof(V) / 4];
  memcpy(words, &value, sizeof value);
  const size_t address = __cvta_generic_to_global(p);
  if constexpr (sizeof(V) == 16) {
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(address), "r"(words[0]), "r"(words[1]), "r"(words[2]),
                 "r"(words[3])
                 : "memory");
  } else if constexpr (sizeof(V) == 8) {
    asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(address), "r"(words[0]), "r"(words[1]) : "memory");
  } else {
    static_assert(sizeof(V) == 4);
    asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(words[0]) : "memory");
  }
}

GPU_DEVICE uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

template <class V>
GPU_DEVICE void store_shared(void* p, V value, Site = {}) {
  static_assert(sizeof(V) == 16);
  uint32_t words[4];
  memcpy(words, &value, sizeof value);
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(p)), "r"(words[0]), "r"(words[1]),
               "r"(words[2]), "r"(words[3])
               : "memory");
}

template <int kBytes>
GPU_DEVICE void copy_async(void* shared, const void* global, bool valid = true) {
  static_assert(kBytes == 16 || kBytes == 4);
  const int bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {  // past L1, which copies of fewer bytes cannot
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
  }
}
GPU_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kGroupsLeft>
GPU_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroupsLeft) : "memory");
}

#if GPU_HAS_BULK
GPU_DEVICE constexpr bool has_bulk() { return true; }
struct Mbarrier {
  uint64_t state;
};
GPU_DEVICE void barrier_init(Mbarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
GPU_DEVICE void barrier_invalidate(Mbarrier* barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}
GPU_DEVICE void barrier_arrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
GPU_DEVICE void barrier_arrive_expect(Mbarrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
GPU_DEVICE bool barrier_try_wait(Mbarrier* barrier, unsigned parity) {
  uint32_t over;
  asm volatile(
      "{\n.reg .pred over;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
      "selp.b32 %0, 1, 0, over;\n}"
      : "=r"(over)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return over != 0;
}
GPU_DEVICE void barrier_wait(Mbarrier* barrier, unsigned parity) {
  while (!barrier_try_wait(barrier, parity)) {
  }
}
GPU_DEVICE void fence_async() { asm volatile("fence.proxy.async;" ::: "memory"); }
GPU_DEVICE void copy_bulk(void* shared, const void* global, int bytes, Mbarrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
GPU_DEVICE void store_bulk(void* global, const void* shared, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(global)),
               "r"(shared_address(shared)), "r"(bytes)
               : "memory");
}
GPU_DEVICE void store_bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kGroupsLeft>
GPU_DEVICE void store_bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroupsLeft) : "memory");
}
template <int kGroupsLeft>
GPU_DEVICE void store_bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}
#endif

GPU_DEVICE void load_matrix(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
GPU_DEVICE void load_matrix(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
GPU_DEVICE void load_matrix_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
GPU_DEVICE void load_matrix_transposed(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

#define PF_MMA(instruction, constraint)                                                 \
  asm volatile(instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"   \
               : constraint(d[0]), constraint(d[1]), constraint(d[2]), constraint(d[3]) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <class T>
struct Mma;
template <>
struct Mma<f16> {
  static GPU_DEVICE void run(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    PF_MMA("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "+f");
  }
};
template <>
struct Mma<bf16> {
  static GPU_DEVICE void run(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    PF_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "+f");
  }
};
template <>
struct Mma<int8_t> {
  static GPU_DEVICE void run(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    PF_MMA("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "+r");
  }
};
#if GPU_HAS_FP8_MMA
template <>
struct Mma<e4m3> {
  static GPU_DEVICE void run(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    PF_MMA("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", "+f");
  }
};
#endif
#undef PF_MMA

template <class T, class D>
GPU_DEVICE void mma(D (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Mma<T>::run(d, a, b);
}

}  // namespace pf::gpu
