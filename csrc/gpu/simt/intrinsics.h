// What a running kernel asks of the emulator. All of it lies in functions of the emulator, which is never instrumented,
// so that in check mode only the kernel's own loads and stores count.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <source_location>

#include "simt.h"

namespace pf::simt {

using Where = std::source_location;

unsigned thread_x();
unsigned threads_x();
Dim3 block_index();
Dim3 grid_size();

void block_sync(Where at);
void warp_sync(Where at);
void fence(Where at);
void spin(Where at);
bool planted(const char* name);

// `value` becomes lane `from`'s; every lane of the warp takes part.
void shuffle(void* value, size_t bytes, int from, Where at);
uint64_t ballot(bool predicate, Where at);

void* shared_array(const void* key, size_t bytes, const char* name, Where at);
void* dynamic_shared(Where at);

// One vector access of 4, 8 or 16 bytes; writes to global memory and to the block's.
void read_vector(void* to, const void* from, size_t bytes, Where at);
void write_vector(void* to, const void* from, size_t bytes, Where at);
void write_shared_vector(void* to, const void* from, size_t bytes, Where at);

// Read-modify-write without order (T: int32_t, uint32_t, uint64_t as unsigned long long); fence() orders.
enum class AtomicOp { kAdd, kMax, kMin, kOr, kExchange, kCompareExchange };
template <class T>
T atomic(AtomicOp op, T* p, T operand, T expected, Where at);
template <class T>
T load_acquire(const T* p, Where at);
template <class T>
void store_release(T* p, T value, Where at);

// The copy lands when it is waited for; until then its target reads as NaNs and counts as uninitialized.
void copy_async(void* shared, const void* global, size_t bytes, size_t valid_bytes, Where at);
void copy_async_commit();
void copy_async_wait(int groups_left, Where at);

// Mbarriers and bulk copies (bulk.cpp). `bytes` is what the arrival expects to come in its phase. A wait is over when
// the phase of this parity is; it tells so, or stays until it is.
bool has_bulk();
void barrier_init(void* barrier, int arrivals, Where at);
void barrier_invalidate(void* barrier, Where at);
void barrier_arrive(void* barrier, int64_t bytes, Where at);
bool barrier_wait(void* barrier, uint32_t parity, bool until_over, Where at);
void fence_async(Where at);
void copy_bulk(void* shared, const void* global, size_t bytes, void* barrier, Where at);
void store_bulk(void* global, const void* shared, size_t bytes, Where at);
void store_bulk_commit();
void store_bulk_wait(int groups_left, bool read_only, Where at);

// ldmatrix .m8n8 of 16-bit elements: 1, 2 or 4 matrices; lane 8 i + r gives row r of matrix i.
void load_matrix(uint32_t* fragment, int matrices, bool transposed, const void* row, Where at);

enum class MmaType { kF16, kBF16, kS8, kE4M3 };
// mma.sync m16n8k16 (16-bit types) or m16n8k32 (8-bit types), row.col: d += a b. d holds floats, or int32_t for kS8.
void mma(MmaType type, void* d, const uint32_t* a, const uint32_t* b, Where at);

// One of AMD's matrix instructions (amd_matrix.cpp): d += a b. d holds floats, or int32_t for the I8's.
enum class AmdMatrix { kMfmaF16, kMfmaBf16, kMfmaI8, kMfmaI8Deep, kMfmaFp8, kWmmaF16, kWmmaBf16, kWmmaI8 };
void amd_matrix(AmdMatrix type, void* d, const uint32_t* a, const uint32_t* b, Where at);

// Called by the hooks of instrumented code.
void note_access(const void* p, size_t bytes, bool write, bool atomic, const void* pc);
void set_instrumented();

}  // namespace pf::simt
