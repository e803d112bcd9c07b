// A weight as the CPU backend keeps it: float32 rows, as given.
#pragma once
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "../../../runtime/backend.h"
#include "../../../runtime/thread_pool.h"

namespace pf {

struct PackedWeight {
  int64_t rows = 0, cols = 0;
  std::vector<float> values;
};

// The result is freed by free_weight. std::invalid_argument for a part that is not f32.
inline PackedWeight* pack_weight(const PfWeightPart* parts, int32_t num_parts, ThreadPool&) {
  PackedWeight packed;
  packed.cols = parts[0].cols;
  for (int32_t i = 0; i < num_parts; ++i) {
    if (parts[i].format != PF_FMT_F32) throw std::invalid_argument("only f32 weights can be packed");
    const size_t begin = packed.values.size();
    packed.values.resize(begin + static_cast<size_t>(parts[i].rows * parts[i].cols));
    std::memcpy(packed.values.data() + begin, parts[i].data, parts[i].bytes);
    packed.rows += parts[i].rows;
  }
  return new PackedWeight(std::move(packed));
}

inline void free_weight(PackedWeight* weight) { delete weight; }

inline size_t packed_bytes(const PackedWeight& weight) { return weight.values.size() * sizeof(float); }

// Writes rows [row, row + rows) to out, row-major.
inline void dequantize_rows(const PackedWeight& weight, int64_t row, int64_t rows, float* out) {
  std::memcpy(out, weight.values.data() + row * weight.cols, static_cast<size_t>(rows * weight.cols) * sizeof(float));
}

}  // namespace pf
