#include "weights/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>

namespace pf::weights {
namespace {

constexpr size_t kMaxKeyBytes = 65535;  // from the format's description
constexpr size_t kMaxNameBytes = 64 * 1024;
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1u << 20;
// The least a metadata entry (key length, type, one byte) and a tensor entry (name length, dims, type, offset) take.
// Bounds the counts a header may claim by the bytes that are there, before anything is allocated for them.
constexpr uint64_t kMinEntryBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

struct BlockType {
  const char* name;
  uint32_t elements;  // weights a block
  uint32_t bytes;     // bytes a block
};

// ggml tensor types by number; an empty name is a number that was never used or was withdrawn.
constexpr std::array<BlockType, 42> kBlockTypes = {{
    {"F32", 1, 4},      {"F16", 1, 2},        {"Q4_0", 32, 18},    {"Q4_1", 32, 20},     {"", 0, 0},
    {"", 0, 0},         {"Q5_0", 32, 22},     {"Q5_1", 32, 24},    {"Q8_0", 32, 34},     {"Q8_1", 32, 40},
    {"Q2_K", 256, 84},  {"Q3_K", 256, 110},   {"Q4_K", 256, 144},  {"Q5_K", 256, 176},   {"Q6_K", 256, 210},
    {"Q8_K", 256, 292}, {"IQ2_XXS", 256, 66}, {"IQ2_XS", 256, 74}, {"IQ3_XXS", 256, 98}, {"IQ1_S", 256, 50},
    {"IQ4_NL", 32, 18}, {"IQ3_S", 256, 110},  {"IQ2_S", 256, 82},  {"IQ4_XS", 256, 136}, {"I8", 1, 1},
    {"I16", 1, 2},      {"I32", 1, 4},        {"I64", 1, 8},       {"F64", 1, 8},        {"IQ1_M", 256, 56},
    {"BF16", 1, 2},     {"", 0, 0},           {"", 0, 0},          {"", 0, 0},           {"TQ1_0", 256, 54},
    {"TQ2_0", 256, 66}, {"", 0, 0},           {"", 0, 0},          {"", 0, 0},           {"MXFP4", 32, 17},
    {"NVFP4", 64, 36},  {"Q1_0", 128, 18},
}};

uint64_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

GgufType read_type(ByteReader& reader) {
  const auto number = reader.read<uint32_t>("a value's type");
  if (number > static_cast<uint32_t>(GgufType::kFloat64)) {
    throw FormatError("metadata has the unknown value type " + std::to_string(number));
  }
  return static_cast<GgufType>(number);
}

GgufEntry read_entry(ByteReader& reader) {
  GgufEntry entry{};
  const std::string_view key = read_gguf_string(reader);
  if (key.empty() || key.size() > kMaxKeyBytes) throw FormatError("a metadata key is empty or longer than 65535 bytes");
  entry.key = key;
  entry.type = read_type(reader);
  entry.count = 1;
  if (entry.type == GgufType::kArray) {
    entry.is_array = true;
    entry.type = read_type(reader);
    if (entry.type == GgufType::kArray)
      throw FormatError("metadata " + entry.key + " nests arrays, which is unsupported");
    entry.count = reader.read<uint64_t>("an array's length");
  }
  entry.offset = reader.offset();
  if (entry.type == GgufType::kString) {
    for (uint64_t i = 0; i < entry.count; ++i) read_gguf_string(reader);  // each at least 8 bytes: ends with the file
  } else {
    uint64_t bytes = entry.count;
    if (!multiply(bytes, scalar_bytes(entry.type))) throw FormatError("metadata " + entry.key + " is too long");
    reader.take(bytes, "a metadata value");
  }
  return entry;
}

// Sets type and nbytes from the ggml type number. A type that we don't know keeps nbytes 0.
void set_type(TensorInfo& tensor, uint32_t number) {
  if (number >= kBlockTypes.size() || kBlockTypes[number].elements == 0) {
    tensor.type = "type " + std::to_string(number);
    return;
  }
  const BlockType& block = kBlockTypes[number];
  tensor.type = block.name;
  const uint64_t cols = tensor.shape.back();
  if (cols % block.elements != 0) {
    throw FormatError("tensor " + tensor.name + " has rows of " + std::to_string(cols) +
                      " weights, not a multiple of " + std::to_string(block.elements) + " as " + block.name + " needs");
  }
  tensor.nbytes = cols / block.elements;
  bool fits = multiply(tensor.nbytes, block.bytes);
  for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) fits = fits && multiply(tensor.nbytes, tensor.shape[i]);
  if (!fits) throw FormatError("the size of tensor " + tensor.name + " exceeds 64 bits");
}

// Reads one entry of the tensor table; `offset` is left relative to the data section.
TensorInfo read_tensor(ByteReader& reader) {
  TensorInfo tensor;
  const std::string_view name = read_gguf_string(reader);
  if (name.empty() || name.size() > kMaxNameBytes) throw FormatError("a tensor's name is empty or too long");
  tensor.name = name;
  const auto dims = reader.read<uint32_t>("a tensor's rank");
  if (dims == 0 || dims > kMaxDims) {
    throw FormatError("tensor " + tensor.name + " has " + std::to_string(dims) + " dimensions, expected 1 to 4");
  }
  tensor.shape.resize(dims);
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dims; ++i) {  // GGUF lists the fastest dimension first
    const auto size = reader.read<uint64_t>("a tensor's shape");
    if (size == 0 || !multiply(elements, size) || elements > INT64_MAX) {
      throw FormatError("tensor " + tensor.name + " has an impossible shape");
    }
    tensor.shape[dims - 1 - i] = size;
  }
  set_type(tensor, reader.read<uint32_t>("a tensor's type"));
  tensor.offset = reader.read<uint64_t>("a tensor's offset");
  return tensor;
}

uint64_t read_alignment(const GgufHeader& header, std::span<const uint8_t> file) {
  for (const GgufEntry& entry : header.metadata) {
    if (entry.key != "general.alignment") continue;
    if (entry.type != GgufType::kUint32 || entry.is_array) throw FormatError("general.alignment is not a uint32");
    const auto alignment = ByteReader(file, entry.offset).read<uint32_t>("the alignment");
    if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
      throw FormatError("general.alignment is " + std::to_string(alignment) + ", not a power of two up to 1 MiB");
    }
    return alignment;
  }
  return kDefaultAlignment;
}

// Makes offsets absolute and checks range, alignment and overlap.
void place_tensors(std::vector<TensorInfo>& tensors, uint64_t data_start, uint64_t alignment, uint64_t file_size) {
  const uint64_t data_size = data_start <= file_size ? file_size - data_start : 0;
  std::vector<const TensorInfo*> order;
  order.reserve(tensors.size());
  for (TensorInfo& tensor : tensors) {
    if (tensor.offset % alignment != 0) {
      throw FormatError("tensor " + tensor.name + " starts at " + std::to_string(tensor.offset) +
                        ", not a multiple of the alignment " + std::to_string(alignment));
    }
    if (tensor.offset > data_size || tensor.nbytes > data_size - tensor.offset) {
      throw FormatError("tensor " + tensor.name + " lies past the end of the file: the file is truncated");
    }
    tensor.offset += data_start;
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset - order[i - 1]->offset < order[i - 1]->nbytes) {
      throw FormatError("tensors " + order[i - 1]->name + " and " + order[i]->name + " overlap");
    }
  }
}

template <typename T, typename Name>
void require_unique(const std::vector<T>& items, Name name, const char* what) {
  std::unordered_set<std::string_view> seen;
  for (const T& item : items) {
    if (!seen.insert(name(item)).second) throw FormatError(std::string(what) + " " + name(item) + " occurs twice");
  }
}

}  // namespace

std::string_view read_gguf_string(ByteReader& reader) {
  const auto length = reader.read<uint64_t>("a string's length");
  return as_text(reader.take(length, "a string"));
}

GgufHeader GgufHeader::parse(std::span<const uint8_t> file) {
  ByteReader reader(file);
  if (as_text(reader.take(4, "the magic number")) != "GGUF") throw FormatError("it does not start with GGUF");
  GgufHeader header{};
  header.version = reader.read<uint32_t>("the version");
  if (header.version != 2 && header.version != 3) {
    const bool swapped = header.version == 0x02000000 || header.version == 0x03000000;
    throw FormatError(swapped ? "it is a big-endian GGUF file, which is unsupported"
                              : "GGUF version " + std::to_string(header.version) + " is unsupported (2 and 3 are)");
  }
  const auto num_tensors = reader.read<uint64_t>("the number of tensors");
  const auto num_entries = reader.read<uint64_t>("the number of metadata entries");
  if (num_entries > reader.remaining() / kMinEntryBytes || num_tensors > reader.remaining() / kMinTensorBytes) {
    throw FormatError("it claims " + std::to_string(num_entries) + " metadata entries and " +
                      std::to_string(num_tensors) + " tensors, more than fit in the file");
  }
  for (uint64_t i = 0; i < num_entries; ++i) header.metadata.push_back(read_entry(reader));
  require_unique(header.metadata, [](const GgufEntry& e) -> const std::string& { return e.key; }, "metadata key");
  header.alignment = read_alignment(header, file);
  for (uint64_t i = 0; i < num_tensors; ++i) header.tensors.push_back(read_tensor(reader));
  require_unique(header.tensors, [](const TensorInfo& t) -> const std::string& { return t.name; }, "tensor");
  const uint64_t data_start = (reader.offset() + header.alignment - 1) / header.alignment * header.alignment;
  place_tensors(header.tensors, data_start, header.alignment, file.size());
  return header;
}

}  // namespace pf::weights
