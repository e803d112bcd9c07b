// Where one tensor lies in a file. Shared by the readers of all formats.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace pf::weights {

struct TensorInfo {
  std::string name;
  std::string type;             // the format's own name: "Q4_1", "BF16"; "type 57" for a GGUF type unknown to us
  std::vector<uint64_t> shape;  // slowest dimension first, as in torch
  uint64_t offset = 0;          // from the start of the file
  uint64_t nbytes = 0;          // 0 when the type is unknown
};

// product * factor, or false when that exceeds 64 bits.
inline bool multiply(uint64_t& product, uint64_t factor) { return !__builtin_mul_overflow(product, factor, &product); }

}  // namespace pf::weights
