// The functions that code compiled with -fsanitize=thread calls at each of its loads and stores. A program that links
// this file instead of the sanitizer's library sends them to the emulator; outside kernels they do nothing.
#include <string.h>

#include "intrinsics.h"

#define PF_PC __builtin_return_address(0)

namespace {

using pf::simt::note_access;

}  // namespace

extern "C" {

#define PF_HOOKS(bytes)                                                                              \
  void __tsan_read##bytes(void* p) { note_access(p, bytes, false, false, PF_PC); }                   \
  void __tsan_write##bytes(void* p) { note_access(p, bytes, true, false, PF_PC); }                   \
  void __tsan_unaligned_read##bytes(void* p) { note_access(p, bytes, false, false, PF_PC); }         \
  void __tsan_unaligned_write##bytes(void* p) { note_access(p, bytes, true, false, PF_PC); }         \
  void __tsan_volatile_read##bytes(void* p) { note_access(p, bytes, false, true, PF_PC); }           \
  void __tsan_volatile_write##bytes(void* p) { note_access(p, bytes, true, true, PF_PC); }           \
  void __tsan_unaligned_volatile_read##bytes(void* p) { note_access(p, bytes, false, true, PF_PC); } \
  void __tsan_unaligned_volatile_write##bytes(void* p) { note_access(p, bytes, true, true, PF_PC); }

PF_HOOKS(1)
PF_HOOKS(2)
PF_HOOKS(4)
PF_HOOKS(8)
PF_HOOKS(16)

void __tsan_init() { pf::simt::set_instrumented(); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* p, size_t bytes) { note_access(p, bytes, false, false, PF_PC); }
void __tsan_write_range(void* p, size_t bytes) { note_access(p, bytes, true, false, PF_PC); }

void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  note_access(from, bytes, false, false, PF_PC);
  note_access(to, bytes, true, false, PF_PC);
  return memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  note_access(from, bytes, false, false, PF_PC);
  note_access(to, bytes, true, false, PF_PC);
  return memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int byte, size_t bytes) {
  note_access(to, bytes, true, false, PF_PC);
  return memset(to, byte, bytes);
}

// Atomics of the C++ library: shared pointers and statics of test code. Kernels have the emulator's own.
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

#define PF_ATOMICS(bits, T)                                                                                         \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) {                    \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                  \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) {                      \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                  \
  }

PF_ATOMICS(8, unsigned char)
PF_ATOMICS(16, unsigned short)
PF_ATOMICS(32, unsigned)
PF_ATOMICS(64, unsigned long)

}  // extern "C"
