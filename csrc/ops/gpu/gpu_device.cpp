#include "gpu_device.h"

#include <stdexcept>

#include "../../runtime/errors.h"

// Of the emulator each piece of memory is one of its own, so that it knows where each ends.
#ifndef PF_GPU_SLAB_BYTES
#define PF_GPU_SLAB_BYTES (size_t{32} << 20)
#endif

namespace pf::gpu {
namespace {

#if defined(__HIPCC__) || defined(__HIP__)
constexpr bool kIsNvidia = false;
#else
constexpr bool kIsNvidia = true;  // the emulator plays one of NVIDIA's
#endif

}  // namespace

GpuDevice::GpuDevice(int index, int32_t activations)
    : runtime_(index),
      stream_(runtime_.create_stream()),
      activations_(activations),
      memory_(runtime_, PF_GPU_SLAB_BYTES),
      scratch_(memory_),
      sampling_(runtime_, memory_),
      description_(runtime_.describe()) {
  if (activations != PF_F32 && activations != PF_F16 && activations != PF_BF16) {
    refuse("activations on a GPU are f32, f16 or bf16");
  }
}

std::unique_lock<std::mutex> GpuDevice::enter() {
  std::unique_lock<std::mutex> lock(mutex_);
  runtime_.use();
  return lock;
}

void GpuDevice::memory(size_t* free, size_t* total) {
  const auto inside = enter();
  runtime_.memory(free, total);
}

void* GpuDevice::allocate(size_t bytes) {
  const auto inside = enter();
  void* memory = memory_.allocate(bytes, "memory of a program");
  runtime_.fill(memory, 0, bytes, stream_);
  runtime_.synchronize(stream_);
  return memory;
}

void GpuDevice::release(void* memory) {
  const auto inside = enter();
  memory_.release(memory);
}

void GpuDevice::copy_in(void* to, const void* from, size_t bytes) {
  const auto inside = enter();
  runtime_.copy_in(to, from, bytes, stream_);
  runtime_.synchronize(stream_);
}

void GpuDevice::copy_out(void* to, const void* from, size_t bytes) {
  const auto inside = enter();
  runtime_.copy_out(to, from, bytes, stream_);
  runtime_.synchronize(stream_);
}

GpuWeight* GpuDevice::pack(const PfWeightPart* parts, int32_t num_parts) {
  const auto inside = enter();
  return pack_gpu_weight(runtime_, stream_, memory_, activations_, parts, num_parts);
}

void GpuDevice::release(GpuWeight* weight) {
  if (weight == nullptr) return;
  const auto inside = enter();
  memory_.release(weight->data);
  delete weight;
}

void GpuDevice::fetch_rows(const GpuWeight& weight, int64_t row, int64_t rows, float* out) {
  const auto inside = enter();
  fetch_gpu_rows(runtime_, stream_, weight, row, rows, out);
}

size_t gpu_kv_block_bytes(const PfKvShape& shape) {
  const size_t scale = shape.dtype == PF_I8 ? sizeof(float) : 0;  // of a token and head
  return 2 * static_cast<size_t>(shape.num_layers) * static_cast<size_t>(shape.kv_heads) *
         static_cast<size_t>(shape.block_size) *
         (static_cast<size_t>(shape.head_dim) * gpu_kv_element_bytes(shape) + scale);
}

GpuKvCache* GpuDevice::create_kv(const PfKvShape& shape) {
  check_gpu_kv(shape, activations_);
  const auto inside = enter();
  const auto halves = 2 * static_cast<size_t>(shape.num_layers), blocks = static_cast<size_t>(shape.num_blocks);
  const size_t bytes = (gpu_kv_block_bytes(shape) / halves * blocks + 255) / 256 * 256;
  auto kv = std::make_unique<GpuKvCache>(GpuKvCache{shape, nullptr, bytes});
  kv->memory = static_cast<char*>(memory_.allocate(halves * bytes, "KV cache"));
  return kv.release();
}

void GpuDevice::release(GpuKvCache* kv) {
  if (kv == nullptr) return;
  const auto inside = enter();
  memory_.release(kv->memory);
  delete kv;
}

GpuProgram& GpuDevice::program_of(const PfStep& step) {
  if (step.program == nullptr) throw std::runtime_error("a step on a GPU must tell its program");
  std::unique_ptr<GpuProgram>& program = programs_[step.program->id];
  if (program == nullptr) program = std::make_unique<GpuProgram>(runtime_, memory_, activations_, *step.program);
  return *program;
}

void GpuDevice::release_program(uint64_t program) {
  const auto inside = enter();
  programs_.erase(program);
}

void GpuDevice::use_library(const std::string& name, const std::vector<std::string>& paths) {
  const auto inside = enter();
  if (name != "cublaslt") refuse("no library \"", name, "\" is known, only cublaslt");
  if (!kIsNvidia) {
    refused_[name] = "it is NVIDIA's, and this is a backend of AMD's GPUs";
    return;
  }
  try {
    gemm_ = std::make_unique<LibraryGemm>(runtime_, memory_, stream_, paths);
    refused_.erase(name);
  } catch (const std::runtime_error& error) {
    refused_[name] = error.what();
  }
}

std::string GpuDevice::libraries() {
  const auto inside = enter();
  std::string text = "{";
  if (gemm_ != nullptr) text += "\"cublaslt\":{" + gemm_->report() + "}";
  for (const auto& [name, reason] : refused_) {
    if (text.size() > 1) text += ',';
    text += json_text(name) + ":{\"refused\":" + json_text(reason) + "}";
  }
  return text + "}";
}

void GpuDevice::execute(const PfCall* calls, int32_t num_calls, const PfStep& step) {
  for (int32_t i = 0; i < num_calls; ++i) {
    if (calls[i].op < 0 || calls[i].op >= num_gpu_ops()) {
      throw std::runtime_error(message("call ", i, " refers to op ", calls[i].op, ", which ", description_, " lacks"));
    }
  }
  const auto inside = enter();
  try {
    run(calls, num_calls, step);
  } catch (...) {
    // Nothing of a failed step may run on into the next one.
    try {
      runtime_.synchronize(stream_);
    } catch (const std::runtime_error&) {  // of the same fault
    }
    throw;
  }
}

void GpuDevice::run(const PfCall* calls, int32_t num_calls, const PfStep& step) {
  const int32_t sample = gpu_op_handle("sample");
  int32_t end = 0;
  while (end < num_calls && calls[end].op != sample) ++end;
  program_of(step).launch(calls, end, step, scratch_, stream_, gemm_.get());
  if (end == num_calls) {
    runtime_.synchronize(stream_);
    return;
  }
  if (end != num_calls - 1) throw std::runtime_error("on a GPU a program ends with its one op \"sample\"");
  // The masks may take as long as the launches above run.
  if (step.wait_masks != nullptr && step.wait_masks(step.wait_ctx) != 0) {
    throw std::runtime_error("the masks were not filled");
  }
  sampling_.launch(calls[end].in[0], step, stream_);
  sampling_.fetch(step, stream_);
}

}  // namespace pf::gpu
