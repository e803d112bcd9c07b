// Reader of the safetensors header: a JSON object that places tensors in the bytes after it.
// Format: https://huggingface.co/docs/safetensors (8 bytes of header length, header, data without gaps)
//
// The bytes are untrusted. What `parse` accepts has known types, sizes that match the shapes, and tensors that cover
// the data section exactly: no gap, no overlap, nothing beyond the end.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "weights/tensor_info.h"

namespace pf::weights {

struct SafetensorsHeader {
  std::vector<std::pair<std::string, std::string>> metadata;  // the "__metadata__" object
  std::vector<TensorInfo> tensors;

  static SafetensorsHeader parse(std::span<const uint8_t> file);  // throws FormatError
};

}  // namespace pf::weights
