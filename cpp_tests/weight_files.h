// Small valid GGUF and safetensors files, made in memory for the tests of the readers.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "weights/gguf.h"

namespace pf::weights::testing {

using Bytes = std::vector<uint8_t>;

class FileBuilder {
 public:
  template <typename T>
  FileBuilder& put(T value) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof(T));
    return *this;
  }
  FileBuilder& raw(std::string_view text) {
    bytes.insert(bytes.end(), text.begin(), text.end());
    return *this;
  }
  // A GGUF string.
  FileBuilder& text(std::string_view text) { return put<uint64_t>(text.size()).raw(text); }
  FileBuilder& type(GgufType type) { return put(static_cast<uint32_t>(type)); }
  FileBuilder& pad(size_t alignment) {
    while (bytes.size() % alignment != 0) bytes.push_back(0);
    return *this;
  }
  FileBuilder& zeros(size_t count) {
    bytes.insert(bytes.end(), count, 0);
    return *this;
  }

  Bytes bytes;
};

// Three metadata entries (string, string array, float array) and two tensors: F32 [2, 3], then Q8_0 [2, 64].
inline Bytes small_gguf(uint32_t version = 3) {
  FileBuilder file;
  file.raw("GGUF").put(version).put<uint64_t>(2).put<uint64_t>(3);
  file.text("general.architecture").type(GgufType::kString).text("llama");
  file.text("tokens").type(GgufType::kArray).type(GgufType::kString).put<uint64_t>(2).text("a").text("bc");
  file.text("scores").type(GgufType::kArray).type(GgufType::kFloat32).put<uint64_t>(2).put(0.5f).put(-1.0f);
  file.text("norm").put<uint32_t>(2).put<uint64_t>(3).put<uint64_t>(2).put<uint32_t>(0).put<uint64_t>(0);
  file.text("matrix").put<uint32_t>(2).put<uint64_t>(64).put<uint64_t>(2).put<uint32_t>(8).put<uint64_t>(32);
  return file.pad(32).zeros(32 + 2 * 2 * 34).bytes;
}

inline Bytes safetensors(std::string_view header, size_t data_bytes) {
  return FileBuilder().put<uint64_t>(header.size()).raw(header).zeros(data_bytes).bytes;
}

inline Bytes small_safetensors() {
  return safetensors(R"({"__metadata__":{"format":"pt"},)"
                     R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                     R"( "b\u00e9\n" : {"shape":[5], "data_offsets":[24,34], "dtype":"BF16"}}  )",
                     34);
}

}  // namespace pf::weights::testing
