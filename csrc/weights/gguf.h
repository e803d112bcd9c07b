// Reader of GGUF versions 2 and 3, little endian: metadata and tensor table. Tensor data is never touched.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// The bytes are untrusted. `parse` walks and checks all of the header once; what it accepts has in-range, aligned,
// non-overlapping tensors, unique names and keys, and values whose bytes lie inside the file.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "weights/byte_reader.h"
#include "weights/tensor_info.h"

namespace pf::weights {

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// A metadata entry. Its `count` elements of `type` start at `offset` of the file and are decoded when asked for.
struct GgufEntry {
  std::string key;
  GgufType type;  // of the value, or of the elements of an array; never kArray
  bool is_array;
  uint64_t count;  // 1 for a scalar
  size_t offset;
};

struct GgufHeader {
  uint32_t version;
  uint64_t alignment;
  std::vector<GgufEntry> metadata;
  std::vector<TensorInfo> tensors;

  static GgufHeader parse(std::span<const uint8_t> file);  // throws FormatError
};

// The next string of a GGUF: a 64-bit length, then that many bytes.
std::string_view read_gguf_string(ByteReader& reader);

}  // namespace pf::weights
