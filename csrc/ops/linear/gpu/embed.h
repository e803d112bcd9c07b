// The op `embed` on a GPU (contract: ops/linear/linear.h).
#pragma once
#include "../../../gpu/gpu.h"
#include "packed_weight.h"

namespace pf::gpu {

// y[t] = weight[ids[t]] * scale for t < tokens; weight[vocab, cols] has dense rows. T: float, f16, bf16.
// An id outside the vocabulary gives NaNs: it is a mistake of the caller, but no reason to read foreign memory.
template <class T>
void embed(const T* weight, int64_t vocab, const int32_t* ids, T* y, int64_t y_stride, int64_t tokens, int64_t cols,
           float scale, Stream stream);

// The same for a weight that pack_weight made.
template <class T>
void embed_packed(const uint8_t* weight, const WeightLayout& layout, int64_t vocab, const int32_t* ids, T* y,
                  int64_t y_stride, int64_t tokens, int64_t cols, float scale, Stream stream);

// One number of a packed weight of n rows, as its file defines it.
GPU_HOST_DEVICE float unpacked(const uint8_t* packed, const WeightLayout& layout, int64_t n, int64_t row, int64_t k) {
  const uint8_t* record =
      packed + (k / kTileK * ((n + kPanelRows - 1) / kPanelRows) + row / kPanelRows) * layout.record_bytes();
  const int s = static_cast<int>(k % kTileK / 16), j = static_cast<int>(k % 16 / 8 * 2 + k % 2);
  const int lane = static_cast<int>(row % kPanelRows * 4 + k % 8 / 2);
  float value = 0.0f;
  bool centred = false;  // what the file stores is 8 more
  if (layout.format == WeightFormat::kInt4) {
    const int bit = 4 * (2 * (s % 2) + j / 2) + 16 * (j % 2);
    value = static_cast<float>(record[lane * 8 + s / 2 * 4 + bit / 8] >> (bit % 8) & 15);
    centred = layout.offset == Offset::kNone;
  } else if (layout.format == WeightFormat::kInt8) {
    value = static_cast<float>(record[lane * 16 + 4 * s + j]) - 128.0f;
  } else {
    value = to_float(e4m3{record[lane * 16 + 4 * s + j]});
  }
  if (centred) value -= 8.0f;
  if (layout.group == 0) return value;
  const int width = layout.scale_width(),
            group = layout.group < kTileK ? static_cast<int>(k % kTileK) / layout.group : 0;
  const f16* scales = reinterpret_cast<const f16*>(record + WeightLayout::code_bytes(layout.format)) +
                      (group * kPanelRows + static_cast<int>(row % kPanelRows)) * width;
  const float d = to_float(scales[0]);
  if (layout.offset == Offset::kMinimum) return value * d + to_float(scales[1]);
  if (layout.offset == Offset::kZero) return (value - to_float(scales[1])) * d;
  return value * d;
}

}  // namespace pf::gpu
