#include "cpu_device.h"

#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <new>
#include <utility>

#include "../../runtime/errors.h"
#include "huge_pages.h"

namespace pf {
namespace {

std::vector<OpTable> tables(Isa isa) {
  switch (isa) {
#ifdef PF_HAVE_AVX512VNNI
    case Isa::avx512vnni:
      return {avx512vnni::linear_ops(), avx512::norm_ops(),   avx512vnni::attention_ops(),
              avx512::activation_ops(), avx512::sample_ops(), avx512vnni::moe_ops()};
#endif
#ifdef PF_HAVE_AVX512
    case Isa::avx512:
      return {avx512::linear_ops(),     avx512::norm_ops(),   avx512::attention_ops(),
              avx512::activation_ops(), avx512::sample_ops(), avx512::moe_ops()};
#endif
#ifdef PF_HAVE_AVXVNNI
    case Isa::avxvnni:
      return {avxvnni::linear_ops(),  avx2::norm_ops(),   avxvnni::attention_ops(),
              avx2::activation_ops(), avx2::sample_ops(), avxvnni::moe_ops()};
#endif
#ifdef PF_HAVE_AVX2
    case Isa::avx2:
      return {avx2::linear_ops(),     avx2::norm_ops(),   avx2::attention_ops(),
              avx2::activation_ops(), avx2::sample_ops(), avx2::moe_ops()};
#endif
    default:
      return {generic::linear_ops(),     generic::norm_ops(),   generic::attention_ops(),
              generic::activation_ops(), generic::sample_ops(), generic::moe_ops()};
  }
}

// Every set is compiled from the same sources, so the generic tables name all ops.
const std::vector<std::string>& op_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const OpTable& table : tables(Isa::generic)) {
      for (int i = 0; i < table.count; ++i) all.emplace_back(table.entries[i].name);
    }
    return all;
  }();
  return names;
}

std::vector<CpuOp> ops_of(Isa isa) {
  std::vector<CpuOp> ops(op_names().size(), nullptr);
  for (const OpTable& table : tables(isa)) {
    for (int i = 0; i < table.count; ++i) {
      const int32_t handle = cpu_op_handle(table.entries[i].name);
      if (handle >= 0) ops[static_cast<size_t>(handle)] = table.entries[i].run;
    }
  }
  return ops;
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Copies whole blocks of the cache in the order given; layers are shared out among the threads.
void copy_blocks(const PfStep& step, Worker& worker) {
  const CpuKvCache& kv = *cpu_kv(step.kv);
  const size_t layer_bytes = kv.block_bytes / static_cast<size_t>(kv.shape.num_layers);
  worker.for_each(kv.shape.num_layers, [&](int64_t layer) {
    for (int32_t i = 0; i < step.num_copies; ++i) {
      std::memcpy(kv.keys(step.copy_dst[i], layer, 0), kv.keys(step.copy_src[i], layer, 0), layer_bytes);
    }
  });
}

// A cache and what it lies in.
struct OwnedKvCache : CpuKvCache {
  std::shared_ptr<uint8_t> memory;
};

}  // namespace

int32_t cpu_op_handle(const char* name) {
  const std::vector<std::string>& names = op_names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<int32_t>(i);
  }
  return -1;
}

void* map_pages(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  return data;
}

void unmap_pages(void* data, size_t bytes) { munmap(data, bytes); }

CpuDevice::CpuDevice(int num_threads, const std::string& isa, std::vector<int> cores)
    : isa_(choose_isa(isa)),
      pool_(num_threads == 0 ? usable_cores() : num_threads, std::move(cores)),
      ops_(ops_of(isa_)),
      description_(message("cpu ", isa_name(isa_), " ", pool_.size(), pool_.size() == 1 ? " thread" : " threads")) {}

void CpuDevice::execute(const PfCall* calls, int32_t num_calls, const PfStep& step) {
  const int32_t sample = cpu_op_handle("sample"), lm_head = cpu_op_handle("lm_head");
  for (int32_t i = 0; i < num_calls; ++i) {
    const int32_t op = calls[i].op;
    if (op < 0 || static_cast<size_t>(op) >= ops_.size() || ops_[static_cast<size_t>(op)] == nullptr) {
      throw std::runtime_error(message("call ", i, " refers to op ", op, ", which ", description_, " lacks"));
    }
  }
  PfStep unmasked = step;  // what lm_head sees as long as there are no masks: it computes everything then
  unmasked.sampling.mask_row = nullptr;
  // Written once, by the first lm_head's item, since late threads must decide as the others did.
  bool asked = false, masked_head = step.wait_masks == nullptr;
  bool waited = false;  // for items only
  const auto wait = [&] {
    if (!waited && step.wait_masks(step.wait_ctx) != 0) throw std::runtime_error("the masks were not filled");
    waited = true;
  };
  pool_.run([&](Worker& worker) {
    if (step.num_copies > 0) {
      copy_blocks(step, worker);
      worker.finish();
    }
    for (int32_t i = 0; i < num_calls; ++i) {
      const PfCall& call = calls[i];
      if (step.wait_masks != nullptr && (call.op == sample || call.op == lm_head)) {
        worker.for_each(1, [&](int64_t) {
          if (call.op == sample) return wait();
          if (asked) return;
          asked = true;
          masked_head = step.masks_ready == nullptr || step.masks_ready(step.wait_ctx) != 0;
          if (masked_head) wait();
        });
        worker.finish();
      }
      ops_[static_cast<size_t>(call.op)](call, call.op == lm_head && !masked_head ? unmasked : step, worker);
      worker.finish();
    }
  });
}

size_t cpu_kv_block_bytes(const PfKvShape& shape) { return cpu_kv_at(shape, nullptr).block_bytes; }

CpuKvCache* create_kv(const PfKvShape& shape) {
  if (shape.dtype != PF_F32 && shape.dtype != PF_F16 && shape.dtype != PF_I16 && shape.dtype != PF_I8) {
    refuse("the KV cache of the CPU holds f32, f16, i16 or i8");
  }
  if (shape.block_size % 16 != 0) {
    refuse("block_size of a KV cache on the CPU is ", shape.block_size, ", must be a multiple of 16");
  }
  if (shape.dtype == PF_I8 && shape.head_dim > kMaxInt8HeadDim) {
    refuse("head_dim of an i8 KV cache on the CPU is ", shape.head_dim, ", must be at most ", kMaxInt8HeadDim);
  }
  auto memory = allocate_weight_memory(cpu_kv_block_bytes(shape) * static_cast<size_t>(shape.num_blocks));
  return new OwnedKvCache{cpu_kv_at(shape, memory.get()), std::move(memory)};
}

void destroy_kv(CpuKvCache* kv) { delete static_cast<OwnedKvCache*>(kv); }

}  // namespace pf
