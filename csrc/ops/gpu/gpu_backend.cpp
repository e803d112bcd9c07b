// The C interface of the GPU backend, one source for CUDA, HIP and the emulator: PF_GPU_BACKEND is its name. Every
// entry point turns exceptions into a code and a message.
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "../../runtime/backend.h"
#include "../../runtime/backend_libraries.h"
#include "../../runtime/errors.h"
#include "../../runtime/guarded.h"
#include "gpu_device.h"

namespace pf::gpu {
namespace {

GpuDevice* device_of(PfDevice* device) { return reinterpret_cast<GpuDevice*>(device); }
GpuWeight* weight_of(PfWeight* weight) { return reinterpret_cast<GpuWeight*>(weight); }
const GpuWeight& weight_of(const PfWeight* weight) { return *reinterpret_cast<const GpuWeight*>(weight); }
GpuKvCache* kv_of(PfKvCache* kv) { return reinterpret_cast<GpuKvCache*>(kv); }

int device_create(const PfDeviceConfig* config, PfDevice** out) {
  return guarded([&] {
    if (config->num_cores > 0) refuse("threads of the CPU's backend can be pinned to cores, a GPU has none");
    *out = reinterpret_cast<PfDevice*>(std::make_unique<GpuDevice>(config->index, config->activations).release());
  });
}
void device_destroy(PfDevice* device) { delete device_of(device); }
const char* device_describe(PfDevice* device) { return device_of(device)->description().c_str(); }
int device_threads(PfDevice*) { return 1; }  // of the host; the device's own are no one's to choose

int allocate(PfDevice* device, size_t bytes, void** out) {
  return guarded([&] { *out = device_of(device)->allocate(bytes); });
}
void release(PfDevice* device, void* data, size_t) {
  static_cast<void>(guarded([&] { device_of(device)->release(data); }));
}
int copy_in(PfDevice* device, void* to, const void* from, size_t bytes) {
  return guarded([&] { device_of(device)->copy_in(to, from, bytes); });
}
int copy_out(PfDevice* device, void* to, const void* from, size_t bytes) {
  return guarded([&] { device_of(device)->copy_out(to, from, bytes); });
}

int weight_pack(PfDevice* device, const PfWeightPart* parts, int32_t num_parts, PfWeight** out) {
  return guarded([&] { *out = reinterpret_cast<PfWeight*>(device_of(device)->pack(parts, num_parts)); });
}
void weight_destroy(PfDevice* device, PfWeight* weight) {
  static_cast<void>(guarded([&] { device_of(device)->release(weight_of(weight)); }));
}
size_t weight_bytes(const PfWeight* weight) { return weight_of(weight).bytes; }
int weight_dequantize(PfDevice* device, const PfWeight* weight, int64_t row, int64_t rows, float* out) {
  return guarded([&] { device_of(device)->fetch_rows(weight_of(weight), row, rows, out); });
}

int kv_create(PfDevice* device, const PfKvShape* shape, PfKvCache** out) {
  return guarded([&] { *out = reinterpret_cast<PfKvCache*>(device_of(device)->create_kv(*shape)); });
}
void kv_destroy(PfDevice* device, PfKvCache* kv) {
  static_cast<void>(guarded([&] { device_of(device)->release(kv_of(kv)); }));
}
size_t kv_block_bytes(const PfKvShape* shape) { return gpu_kv_block_bytes(*shape); }

int execute(PfDevice* device, const PfCall* calls, int32_t num_calls, const PfStep* step) {
  return guarded([&] { device_of(device)->execute(calls, num_calls, *step); });
}
void release_program(PfDevice* device, uint64_t program) {
  static_cast<void>(guarded([&] { device_of(device)->release_program(program); }));
}

int memory(PfDevice* device, size_t* free, size_t* total) {
  return guarded([&] { device_of(device)->memory(free, total); });
}

int use_library(PfDevice* device, const char* name, const char* const* paths, int32_t num_paths) {
  return guarded([&] { device_of(device)->use_library(name, {paths, paths + num_paths}); });
}
int libraries(PfDevice* device, const char** out) {
  thread_local std::string text;
  return guarded([&] {
    text = device_of(device)->libraries();
    *out = text.c_str();
  });
}

constexpr PfBackend kBackend = {
    .abi = PF_BACKEND_ABI,
    .size = sizeof(PfBackend),
    .name = PF_GPU_BACKEND,
    .last_error = last_error,
    .device_create = device_create,
    .device_destroy = device_destroy,
    .device_describe = device_describe,
    .device_threads = device_threads,
    .alloc = allocate,
    .free = release,
    .weight_pack = weight_pack,
    .weight_destroy = weight_destroy,
    .weight_bytes = weight_bytes,
    .weight_dequantize = weight_dequantize,
    .kv_create = kv_create,
    .kv_destroy = kv_destroy,
    .kv_block_bytes = kv_block_bytes,
    .find_op = gpu_op_handle,
    .execute = execute,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .release_program = release_program,
    .packed_layout = nullptr,
    .weight_save = nullptr,
    .weight_restore = nullptr,
    .memory = memory,
};

constexpr PfLibraries kLibraries = {.use = use_library, .report = libraries};

}  // namespace
}  // namespace pf::gpu

extern "C" __attribute__((visibility("default"))) const PfBackend* pf_backend_get(uint32_t abi) {
  return abi == PF_BACKEND_ABI ? &pf::gpu::kBackend : nullptr;
}

extern "C" __attribute__((visibility("default"))) const PfLibraries* pf_backend_libraries() {
  return &pf::gpu::kLibraries;
}
