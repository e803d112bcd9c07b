// The C interface of the CPU backend. Every entry point turns exceptions into a code and a message.
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "../../runtime/errors.h"
#include "../../runtime/guarded.h"
#include "../linear/cpu/packed.h"
#include "cpu_device.h"

namespace pf {
namespace {

CpuDevice* device_of(PfDevice* device) { return reinterpret_cast<CpuDevice*>(device); }
const PackedWeight& weight_of(const PfWeight* weight) { return *reinterpret_cast<const PackedWeight*>(weight); }

int device_create(const PfDeviceConfig* config, PfDevice** out) {
  return guarded([&] {
    if (config->activations != PF_F32) refuse("activations on a CPU are float32");
    auto device = std::make_unique<CpuDevice>(config->num_threads, config->isa == nullptr ? "auto" : config->isa,
                                              std::vector<int>(config->cores, config->cores + config->num_cores));
    *out = reinterpret_cast<PfDevice*>(device.release());
  });
}
void device_destroy(PfDevice* device) { delete device_of(device); }
const char* device_describe(PfDevice* device) { return device_of(device)->description().c_str(); }
int device_threads(PfDevice* device) { return device_of(device)->pool().size(); }

int allocate(PfDevice*, size_t bytes, void** out) {
  return guarded([&] { *out = map_pages(bytes); });
}
void release(PfDevice*, void* data, size_t bytes) {
  if (data != nullptr) unmap_pages(data, bytes);
}

int weight_pack(PfDevice* device, const PfWeightPart* parts, int32_t num_parts, PfWeight** out) {
  return guarded([&] { *out = reinterpret_cast<PfWeight*>(pack_weight(parts, num_parts, device_of(device)->pool())); });
}
void weight_destroy(PfDevice*, PfWeight* weight) { free_weight(reinterpret_cast<PackedWeight*>(weight)); }
size_t weight_bytes(const PfWeight* weight) { return packed_bytes(weight_of(weight)); }
int weight_dequantize(PfDevice*, const PfWeight* weight, int64_t row, int64_t rows, float* out) {
  return guarded([&] { dequantize_rows(weight_of(weight), row, rows, out); });
}

int weight_save(PfDevice*, const PfWeight* weight, PfWrite write, void* ctx) {
  return guarded([&] { save_weight(weight_of(weight), write, ctx); });
}
int weight_restore(PfDevice*, const PfWeightPart* parts, int32_t num_parts, PfRead read, void* ctx, PfWeight** out) {
  return guarded([&] { *out = reinterpret_cast<PfWeight*>(restore_weight(parts, num_parts, read, ctx)); });
}

int kv_create(PfDevice*, const PfKvShape* shape, PfKvCache** out) {
  return guarded([&] { *out = reinterpret_cast<PfKvCache*>(create_kv(*shape)); });
}
void kv_destroy(PfDevice*, PfKvCache* kv) { destroy_kv(cpu_kv(kv)); }
size_t kv_block_bytes(const PfKvShape* shape) { return cpu_kv_block_bytes(*shape); }

int execute(PfDevice* device, const PfCall* calls, int32_t num_calls, const PfStep* step) {
  return guarded([&] { device_of(device)->execute(calls, num_calls, *step); });
}

constexpr PfBackend kBackend = {
    .abi = PF_BACKEND_ABI,
    .size = sizeof(PfBackend),
    .name = "cpu",
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
    .find_op = cpu_op_handle,
    .execute = execute,
    .copy_in = nullptr,
    .copy_out = nullptr,
    .release_program = nullptr,
    .packed_layout = kPackedLayout,
    .weight_save = weight_save,
    .weight_restore = weight_restore,
    .memory = nullptr,
};

}  // namespace
}  // namespace pf

extern "C" __attribute__((visibility("default"))) const PfBackend* pf_backend_get(uint32_t abi) {
  return abi == PF_BACKEND_ABI ? &pf::kBackend : nullptr;
}
