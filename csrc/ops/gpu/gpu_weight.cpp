#include "gpu_weight.h"

#include <memory>
#include <vector>

#include "../../runtime/errors.h"

namespace pf::gpu {
namespace {

template <class T>
void widen(const PfWeightPart& part, float* out) {
  const T* values = static_cast<const T*>(part.data);
  for (int64_t i = 0; i < part.rows * part.cols; ++i) out[i] = to_float(values[i]);
}

void widen_part(const PfWeightPart& part, float* out) {
  switch (part.format) {
    case PF_FMT_F32:
      return widen<float>(part, out);
    case PF_FMT_F16:
      return widen<f16>(part, out);
    case PF_FMT_BF16:
      return widen<bf16>(part, out);
    default:
      refuse("a GPU has no kernels yet for quantized weights; dtype=\"float32\" dequantizes them");
  }
}

}  // namespace

GpuWeight* pack_gpu_weight(Runtime& runtime, Stream stream, MemoryPool& memory, const PfWeightPart* parts,
                           int32_t num_parts) {
  auto weight = std::make_unique<GpuWeight>();
  weight->cols = parts[0].cols;
  for (int32_t i = 0; i < num_parts; ++i) weight->rows += parts[i].rows;
  std::vector<float> values(static_cast<size_t>(weight->rows * weight->cols));
  int64_t row = 0;
  for (int32_t i = 0; i < num_parts; ++i) {
    widen_part(parts[i], values.data() + row * weight->cols);
    row += parts[i].rows;
  }
  weight->values = static_cast<float*>(memory.allocate(weight->bytes(), "weight"));
  runtime.copy_in(weight->values, values.data(), weight->bytes(), stream);
  runtime.synchronize(stream);
  return weight.release();
}

}  // namespace pf::gpu
