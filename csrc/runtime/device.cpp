#include "device.h"

#include <cstring>
#include <string_view>

#include "backend_loader.h"
#include "errors.h"

namespace pf {
namespace {

struct FormatInfo {
  PfFormat format;
  std::string_view name;
  int64_t block_cols;
  size_t block_bytes;
};

constexpr FormatInfo kFormats[] = {
    {PF_FMT_F32, "f32", 1, 4},       {PF_FMT_F16, "f16", 1, 2},       {PF_FMT_BF16, "bf16", 1, 2},
    {PF_FMT_Q8_0, "q8_0", 32, 34},   {PF_FMT_Q4_0, "q4_0", 32, 18},   {PF_FMT_Q4_1, "q4_1", 32, 20},
    {PF_FMT_Q4_K, "q4_k", 256, 144}, {PF_FMT_Q6_K, "q6_k", 256, 210},
};

WeightShape check_parts(const std::vector<PfWeightPart>& parts) {
  if (parts.empty()) refuse("a weight needs at least one part");
  WeightShape shape{0, parts[0].cols};
  for (size_t i = 0; i < parts.size(); ++i) {
    const PfWeightPart& part = parts[i];
    if (part.rows < 1 || part.cols < 1) refuse("part ", i, " has shape [", part.rows, ", ", part.cols, "]");
    if (part.rows > INT32_MAX || part.cols > INT32_MAX) refuse("part ", i, " has more than 2^31 rows or columns");
    if (part.cols != shape.cols) refuse("part ", i, " has ", part.cols, " columns, part 0 has ", shape.cols);
    const size_t wanted = row_bytes(part.format, part.cols) * static_cast<size_t>(part.rows);
    if (part.bytes != wanted) {
      refuse("part ", i, " has ", part.bytes, " bytes, but [", part.rows, ", ", part.cols, "] in its format takes ",
             wanted);
    }
    shape.rows += part.rows;
  }
  return shape;
}

}  // namespace

size_t row_bytes(int32_t format, int64_t cols) {
  for (const FormatInfo& info : kFormats) {
    if (info.format != format) continue;
    if (cols % info.block_cols != 0) {
      refuse(cols, " columns are not a multiple of ", info.block_cols, ", the block of ", std::string(info.name));
    }
    return static_cast<size_t>(cols / info.block_cols) * info.block_bytes;
  }
  refuse("unknown weight format ", format);
}

PfFormat format_from_name(const std::string& name) {
  std::string known;
  for (const FormatInfo& info : kFormats) {
    if (info.name == name) return info.format;
    known += (known.empty() ? "" : ", ") + std::string(info.name);
  }
  refuse("unknown weight format \"", name, "\", known are ", known);
}

Device::Device(const std::string& backend_path, int num_threads, const std::string& isa, const std::vector<int>& cores,
               int index, PfDType activations)
    : backend_(load_backend(backend_path)), libraries_(find_libraries(backend_path)), activations_(activations) {
  PfDeviceConfig config{};
  config.num_threads = num_threads;
  config.isa = isa.c_str();
  config.cores = cores.data();
  config.num_cores = static_cast<int32_t>(cores.size());
  config.index = index;
  config.activations = activations;
  check(backend_.device_create(&config, &handle_), "creating a device");
}

Device::~Device() { backend_.device_destroy(handle_); }

std::optional<Device::Memory> Device::memory() const {
  if (backend_.memory == nullptr) return std::nullopt;
  Memory memory{};
  check(backend_.memory(handle_, &memory.free, &memory.total), "asking for its memory");
  return memory;
}

void Device::use_library(const std::string& name, const std::vector<std::string>& paths) {
  if (libraries_ == nullptr) throw BackendError(message("the ", backend_.name, " backend uses no libraries"));
  std::vector<const char*> names;
  for (const std::string& path : paths) names.push_back(path.c_str());
  check(libraries_->use(handle_, name.c_str(), names.data(), static_cast<int32_t>(names.size())), "choosing a library");
}

std::string Device::libraries() const {
  if (libraries_ == nullptr) return "{}";
  const char* text = nullptr;
  check(libraries_->report(handle_, &text), "asking for its libraries");
  return text;
}

void Device::check(int code, const char* doing) const {
  if (code != 0) throw BackendError(message(backend_.name, " backend, ", doing, ": ", backend_.last_error()));
}

DeviceMemory::DeviceMemory(std::shared_ptr<Device> device, size_t bytes) : device_(std::move(device)), bytes_(bytes) {
  device_->check(device_->backend().alloc(device_->handle(), bytes_, &data_), "allocating memory");
}

DeviceMemory::~DeviceMemory() { device_->backend().free(device_->handle(), data_, bytes_); }

void DeviceMemory::write(void* to, const void* from, size_t bytes) const {
  const PfBackend& backend = device_->backend();
  if (backend.copy_in == nullptr) {
    std::memcpy(to, from, bytes);
  } else {
    device_->check(backend.copy_in(device_->handle(), to, from, bytes), "copying to the device");
  }
}

void DeviceMemory::read(void* to, const void* from, size_t bytes) const {
  const PfBackend& backend = device_->backend();
  if (backend.copy_out == nullptr) {
    std::memcpy(to, from, bytes);
  } else {
    device_->check(backend.copy_out(device_->handle(), to, from, bytes), "copying from the device");
  }
}

Weight::Weight(std::shared_ptr<Device> device, const std::vector<PfWeightPart>& parts)
    : device_(std::move(device)), shape_(check_parts(parts)) {
  const auto count = static_cast<int32_t>(parts.size());
  device_->check(device_->backend().weight_pack(device_->handle(), parts.data(), count, &handle_), "packing a weight");
}

Weight::Weight(std::shared_ptr<Device> device, const std::vector<PfWeightPart>& parts, PfRead read, void* ctx)
    : device_(std::move(device)), shape_(check_parts(parts)) {
  const auto count = static_cast<int32_t>(parts.size());
  device_->check(device_->backend().weight_restore(device_->handle(), parts.data(), count, read, ctx, &handle_),
                 "restoring a weight");
}

Weight::~Weight() { device_->backend().weight_destroy(device_->handle(), handle_); }

size_t Weight::bytes() const { return device_->backend().weight_bytes(handle_); }

void Weight::check_rows(int64_t row, int64_t rows) const {
  if (row < 0 || rows < 0 || row > shape_.rows - rows) {
    refuse(rows, " rows from row ", row, " are not within the ", shape_.rows, " rows of the weight");
  }
}

void Weight::dequantize(int64_t row, int64_t rows, float* out) const {
  device_->check(device_->backend().weight_dequantize(device_->handle(), handle_, row, rows, out),
                 "dequantizing a weight");
}

void check_kv_shape(const PfKvShape& shape) {
  const auto positive = [](const char* name, int32_t value) {
    if (value < 1) refuse("a KV cache needs ", name, " of at least 1, not ", value);
  };
  positive("num_layers", shape.num_layers);
  positive("kv_heads", shape.kv_heads);
  positive("head_dim", shape.head_dim);
  positive("block_size", shape.block_size);
  positive("num_blocks", shape.num_blocks);
  if (shape.dtype < PF_F32 || shape.dtype > PF_I16) {
    refuse("a KV cache holds f32, f16, bf16, i16, i8 or e4m3, not dtype ", shape.dtype);
  }
  if (static_cast<int64_t>(shape.num_blocks) * shape.block_size > INT32_MAX) {
    refuse("a KV cache of ", shape.num_blocks, " blocks of ", shape.block_size, " tokens has more than 2^31 slots");
  }
}

KvCache::KvCache(std::shared_ptr<Device> device, const PfKvShape& shape) : device_(std::move(device)), shape_(shape) {
  check_kv_shape(shape_);
  device_->check(device_->backend().kv_create(device_->handle(), &shape_, &handle_), "creating a KV cache");
}

KvCache::~KvCache() { device_->backend().kv_destroy(device_->handle(), handle_); }

size_t KvCache::bytes() const {
  return device_->backend().kv_block_bytes(&shape_) * static_cast<size_t>(shape_.num_blocks);
}

}  // namespace pf
