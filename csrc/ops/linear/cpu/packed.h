// Packing weights for the CPU. Ops read the result through packed_tiles.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "packed_tiles.h"

namespace pf {

class ThreadPool;

// Packs the concatenation of parts on all threads of the pool; the source is not needed afterwards. Free the result
// with free_weight. std::invalid_argument when a part has an unknown format, incomplete blocks, other columns than the
// first part or another number of bytes than its shape takes; std::bad_alloc.
PackedWeight* pack_weight(const PfWeightPart* parts, int32_t num_parts, ThreadPool& pool);
void free_weight(PackedWeight* weight);

size_t packed_bytes(const PackedWeight& weight);

// The bytes of a packed weight, one piece after another. std::runtime_error when `write` fails.
void save_weight(const PackedWeight& weight, PfWrite write, void* ctx);

// The weight that pack_weight makes of `parts`, out of what save_weight wrote, read by the calling thread.
// std::runtime_error when `read` fails; otherwise as pack_weight, which needs the parts' data where this does not.
PackedWeight* restore_weight(const PfWeightPart* parts, int32_t num_parts, PfRead read, void* ctx);

// Writes rows [row, row + rows) as float32, row-major. The values are those that the file format defines, bit for bit.
void dequantize_rows(const PackedWeight& weight, int64_t row, int64_t rows, float* out);

}  // namespace pf
