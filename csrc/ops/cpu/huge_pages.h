// Memory for weights and the KV cache: much of it is read each step, so huge pages spare it TLB misses (10 to 15 % of
// the bandwidth).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace pf {

// Zeroed memory, 64-byte aligned, freed when the last owner lets go. Small pieces share a mapping, so that a model of
// many small matrices gets huge pages too; the mapping lives as long as any of them. Throws std::bad_alloc.
std::shared_ptr<uint8_t> allocate_weight_memory(size_t bytes);

}  // namespace pf
