#include "weights/safetensors.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "weights/byte_reader.h"
#include "weights/json_cursor.h"

namespace pf::weights {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // from the format's description

struct ElementType {
  std::string_view name;
  uint32_t bits;
};

constexpr std::array<ElementType, 20> kElementTypes = {{
    {"F64", 64},    {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"I64", 64},    {"I32", 32}, {"I16", 16},
    {"I8", 8},      {"U64", 64},    {"U32", 32},    {"U16", 16},    {"U8", 8},      {"BOOL", 8}, {"C64", 64},
    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
}};

uint32_t bits_of(const TensorInfo& tensor) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == tensor.type) return type.bits;
  }
  throw FormatError("tensor " + tensor.name + " has the unknown type " + tensor.type);
}

// Reads {"dtype": …, "shape": […], "data_offsets": [begin, end]}, its members in any order.
TensorInfo read_tensor(JsonCursor& json, const std::string& name) {
  TensorInfo tensor;
  tensor.name = name;
  std::vector<uint64_t> range;
  bool has_shape = false;
  json.object([&](const std::string& key) {
    if (key == "dtype" && tensor.type.empty()) {
      tensor.type = json.string();
    } else if (key == "shape" && !has_shape) {
      has_shape = true;
      json.array([&] { tensor.shape.push_back(json.integer()); });
    } else if (key == "data_offsets" && range.empty()) {
      json.array([&] { range.push_back(json.integer()); });
    } else {
      throw FormatError("tensor " + name + " has an unknown or repeated member " + key);
    }
  });
  if (tensor.type.empty() || !has_shape || range.size() != 2 || range[0] > range[1]) {
    throw FormatError("tensor " + name + " lacks a type, a shape or a valid pair of offsets");
  }
  tensor.offset = range[0];
  tensor.nbytes = range[1] - range[0];
  uint64_t bits = bits_of(tensor);
  bool fits = true;
  for (const uint64_t size : tensor.shape) fits = fits && multiply(bits, size);
  if (!fits || bits % 8 != 0 || bits / 8 != tensor.nbytes) {
    throw FormatError("tensor " + name + " has " + std::to_string(tensor.nbytes) +
                      " bytes, which contradicts its shape and type");
  }
  return tensor;
}

// Makes offsets absolute; the tensors must follow each other from the first data byte to the last.
void place_tensors(std::vector<TensorInfo>& tensors, uint64_t data_start, uint64_t data_size) {
  std::vector<TensorInfo*> order;
  order.reserve(tensors.size());
  for (TensorInfo& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->offset != b->offset ? a->offset < b->offset : a->nbytes < b->nbytes;
  });
  uint64_t end = 0;
  for (TensorInfo* tensor : order) {
    if (tensor->offset != end)
      throw FormatError("tensor " + tensor->name + " overlaps another or leaves a gap before it");
    if (tensor->nbytes > data_size - end) {
      throw FormatError("tensor " + tensor->name + " lies past the end of the file: the file is truncated");
    }
    end += tensor->nbytes;
    tensor->offset += data_start;
  }
  if (end != data_size) {
    throw FormatError("the tensors take " + std::to_string(end) + " bytes, but " + std::to_string(data_size) +
                      " follow the header");
  }
}

}  // namespace

SafetensorsHeader SafetensorsHeader::parse(std::span<const uint8_t> file) {
  ByteReader reader(file);
  const auto length = reader.read<uint64_t>("the header's length");
  if (length > kMaxHeaderBytes) {
    throw FormatError("the header claims " + std::to_string(length) + " bytes, over the limit of 100 MB");
  }
  JsonCursor json(as_text(reader.take(length, "the header")));
  SafetensorsHeader header;
  std::unordered_set<std::string> seen;
  json.object([&](const std::string& name) {
    if (!seen.insert(name).second) throw FormatError("tensor " + name + " occurs twice");
    if (name == "__metadata__") {
      json.object([&](const std::string& key) { header.metadata.emplace_back(key, json.string()); });
    } else {
      header.tensors.push_back(read_tensor(json, name));
    }
  });
  json.expect_end();
  place_tensors(header.tensors, reader.offset(), reader.remaining());
  return header;
}

}  // namespace pf::weights
