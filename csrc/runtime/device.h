// Owners of what a backend hands out. A weight or a cache keeps its device alive; all are made and destroyed with the
// thread that runs steps not running.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend.h"
#include "backend_libraries.h"
#include "program.h"

namespace pf {

class Device {
 public:
  // `isa`, `cores`, `index` and `activations` as in PfDeviceConfig. Throws BackendError (unknown backend; an
  // instruction set that the machine lacks, a core that this process may not use, no such device).
  Device(const std::string& backend_path, int num_threads, const std::string& isa, const std::vector<int>& cores = {},
         int index = 0, PfDType activations = PF_F32);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const PfBackend& backend() const { return backend_; }
  PfDevice* handle() const { return handle_; }
  PfDType activations() const { return activations_; }
  bool has_op(const std::string& name) const { return backend_.find_op(name.c_str()) >= 0; }

  struct Memory {
    size_t free, total;
  };
  // The device's own; nothing where it is the host's.
  std::optional<Memory> memory() const;

  // As PfLibraries. Throws BackendError where the backend uses no libraries, or does not know this one.
  void use_library(const std::string& name, const std::vector<std::string>& paths);
  std::string libraries() const;  // "{}" where the backend uses none

  // Throws BackendError with the backend's message unless `code` is 0.
  void check(int code, const char* doing) const;

 private:
  const PfBackend& backend_;
  const PfLibraries* const libraries_;  // null: the backend uses none
  const PfDType activations_;
  PfDevice* handle_ = nullptr;
};

class DeviceMemory {
 public:
  DeviceMemory(std::shared_ptr<Device> device, size_t bytes);  // zeroed
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  // Of the device: only it may look there.
  char* data() const { return static_cast<char*>(data_); }

  // Copies to and from an address within this memory.
  void write(void* to, const void* from, size_t bytes) const;
  void read(void* to, const void* from, size_t bytes) const;

 private:
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  size_t bytes_;
};

class Weight {
 public:
  // Parts are checked: positive shapes, equal cols, whole blocks, as many bytes as rows x cols take.
  Weight(std::shared_ptr<Device> device, const std::vector<PfWeightPart>& parts);
  // What that made of the parts, whose data is not needed, out of the bytes that `read` gives.
  Weight(std::shared_ptr<Device> device, const std::vector<PfWeightPart>& parts, PfRead read, void* ctx);
  ~Weight();
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  const PfWeight* handle() const { return handle_; }
  const Device& device() const { return *device_; }
  WeightShape shape() const { return shape_; }
  size_t bytes() const;
  // std::invalid_argument unless rows [row, row + rows) are all there.
  void check_rows(int64_t row, int64_t rows) const;
  // Writes rows [row, row + rows), which check_rows accepts, as float32.
  void dequantize(int64_t row, int64_t rows, float* out) const;

 private:
  std::shared_ptr<Device> device_;
  PfWeight* handle_ = nullptr;
  WeightShape shape_;
};

class KvCache {
 public:
  KvCache(std::shared_ptr<Device> device, const PfKvShape& shape);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  PfKvCache* handle() const { return handle_; }
  const PfKvShape& shape() const { return shape_; }
  size_t bytes() const;

 private:
  std::shared_ptr<Device> device_;
  PfKvShape shape_;
  PfKvCache* handle_ = nullptr;
};

void check_kv_shape(const PfKvShape& shape);

// Bytes of one row of `cols` elements in a storage format. std::invalid_argument for an unknown format, or where cols
// is not a whole number of its blocks.
size_t row_bytes(int32_t format, int64_t cols);

// The format of a name such as "bf16" or "q4_k".
PfFormat format_from_name(const std::string& name);

}  // namespace pf
