// What the GEMM kernels share: which rows a block of the grid has, how packed codes become numbers, and what happens to
// a sum before it is stored.
#pragma once
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../../../gpu/values.h"
#include "linear.h"

namespace pf::gpu {

template <class T>
struct GemmCall {
  LinearArgs<T> args;
  bool x_vectors, w_vectors;    // whole rows can be read 16 bytes at once
  bool y_vectors;               // outputs, and what is added to them, four columns at once
  int record_bytes, groups;     // of a packed weight
  int64_t panels, tile_panels;  // of a packed matrix, and in each of its tiles
  int64_t expert_bytes;         // from one expert's matrix to the next
};

// Four columns of T, or two, as one access.
template <class T, int kCount>
GPU_DEVICE void load_few(const T* p, float (&values)[kCount], Site at = Site::current()) {
  struct alignas(kCount * sizeof(T)) Part {
    T elements[kCount];
  };
  const Part part = load_vec<Part>(p, at);
  GPU_UNROLL for (int i = 0; i < kCount; ++i) values[i] = to_float(part.elements[i]);
}

// One, two or four floats of shared memory in one access.
template <int kCount>
GPU_DEVICE void store_run(float* p, const float (&values)[kCount], Site at = Site::current()) {
  if constexpr (kCount == 1) {
    *p = values[0];
  } else if constexpr (kCount == 2) {
    *reinterpret_cast<uint64_t*>(p) = detail::as_bits(values[0]) | uint64_t{detail::as_bits(values[1])} << 32;
  } else {
    static_assert(kCount == 4);
    store_shared(p, pack<float>(values), at);
  }
}

// The rows of one block of the grid; without experts, those from `first` on.
template <class T>
struct BlockRows {
  int64_t expert, first;
  int count;

  GPU_DEVICE BlockRows(const LinearArgs<T>& args, int64_t block, int tile_rows) {
    const ExpertBlocks& e = args.experts;
    expert = e.expert == nullptr ? 0 : e.expert[block];
    first = block * (e.expert == nullptr ? tile_rows : e.rows);
    count = e.expert == nullptr ? tile_rows : e.rows;
  }
  // The row of y, or -1 for none.
  GPU_DEVICE int64_t slot(const LinearArgs<T>& args, int row) const {
    if (row >= count) return -1;
    if (args.experts.slots != nullptr) return args.experts.slots[first + row];
    return first + row < args.rows || GPU_PLANTED("gemm: rows past the end") ? first + row : -1;
  }
  GPU_DEVICE static int64_t x_row(const LinearArgs<T>& args, int64_t slot) {
    const int per_row = args.experts.slots_per_row;
    return per_row == 1 ? slot : static_cast<uint32_t>(slot) / static_cast<uint32_t>(per_row);
  }
};

// w = fma(q, d, c), exact in fp32 but for kMinimum, whose sum is rounded once.
struct GroupScale {
  float d, c;
};

// The scale of row `row` in group `group` of a record's tile.
template <WeightFormat kFormat>
GPU_DEVICE GroupScale load_scale(const char* record, int group, int row, const WeightLayout& layout) {
  constexpr float kMiddle = kFormat == WeightFormat::kInt4 ? 8.0f : 0.0f;
  if (layout.group == 0) return {1.0f, -kMiddle};
  const int width = layout.scale_width();
  const f16* scale =
      reinterpret_cast<const f16*>(record + WeightLayout::code_bytes(kFormat)) + (group * kPanelRows + row) * width;
  const float d = to_float(scale[0]);
  if (layout.offset == Offset::kNone) return {d, -kMiddle * d};
  const float offset = to_float(scale[1]);
  return {d, layout.offset == Offset::kMinimum ? offset : -offset * d};
}

// A lane's codes of one record: the words of its row and column (packed_weight.h).
template <WeightFormat kFormat>
struct Codes {
  static constexpr int kWords = kFormat == WeightFormat::kInt4 ? 2 : 4;
  struct alignas(4 * kWords) Words {
    uint32_t word[kWords];
  };
  Words words;

  GPU_DEVICE void load(const char* record, int lane, Site at = Site::current()) {
    words = load_vec<Words>(record + lane * static_cast<int>(sizeof(Words)), at);
  }
  // Numbers 0 and 1, or 2 and 3, of two lanes become the four numbers of one.
  GPU_DEVICE void join(const Codes& low, const Codes& high, bool second) {
    constexpr uint32_t kMask = kFormat == WeightFormat::kInt4 ? 0x0f0f0f0fu : 0xffffu;
    constexpr int kShift = kFormat == WeightFormat::kInt4 ? 4 : 16;
    const int from = second ? kShift : 0;
    GPU_UNROLL for (int w = 0; w < kWords; ++w) {
      words.word[w] = (low.words.word[w] >> from & kMask) | (high.words.word[w] >> from & kMask) << kShift;
    }
  }
  // Steps 2 and 3 become 0 and 1.
  GPU_DEVICE void drop_first_half() {
    GPU_UNROLL for (int w = 0; w < kWords / 2; ++w) words.word[w] = words.word[kWords / 2 + w];
  }
  // q of step s and number j as an unsigned code.
  GPU_DEVICE uint32_t code(int s, int j) const {
    if constexpr (kFormat == WeightFormat::kInt4) {
      return words.word[s / 2] >> (4 * (s % 2 * 2 + j / 2) + 16 * (j % 2)) & 15u;
    } else {
      return words.word[s] >> (8 * j) & 255u;
    }
  }
  GPU_DEVICE float value(int s, int j) const {
    const uint32_t q = code(s, j);
    if constexpr (kFormat == WeightFormat::kE4m3) return to_float(e4m3{static_cast<uint8_t>(q)});
    return static_cast<float>(static_cast<int>(q) - (kFormat == WeightFormat::kInt8 ? 128 : 0));
  }
};

// Scales, bias, activation, residual, store, for the sums of four columns of one row of y. `column` is a multiple of 4.
template <class T>
GPU_DEVICE void finish(const GemmCall<T>& call, int64_t expert, int64_t slot, int64_t column, float (&v)[4]) {
  using Out = Output<T>;
  const LinearArgs<T>& args = call.args;
  const int64_t n = args.weight.n;
  if (slot < 0 || column >= n) return;
  if (args.x_scale != nullptr) {
    const float scale = args.x_scale[BlockRows<T>::x_row(args, slot)];
    GPU_UNROLL for (int i = 0; i < 4; ++i) v[i] *= scale;
  }
  const bool vectors = call.y_vectors;
  const auto each_column = [&](const float* p, auto apply) {
    float w[4];
    if (vectors) {
      load_few(p + expert * n + column, w);
    } else {
      GPU_UNROLL for (int i = 0; i < 4; ++i) w[i] = column + i < n ? p[expert * n + column + i] : 0.0f;
    }
    GPU_UNROLL for (int i = 0; i < 4; ++i) v[i] = apply(v[i], w[i]);
  };
  if (args.weight.column_scale != nullptr) {
    each_column(args.weight.column_scale, [](float a, float b) { return a * b; });
  }
  if (args.bias != nullptr) each_column(args.bias, [](float a, float b) { return a + b; });
  const auto store = [&](auto count, const float* values, int64_t first, int64_t columns) {
    constexpr int kCount = decltype(count)::value;
    float out[kCount];
    GPU_UNROLL for (int i = 0; i < kCount; ++i) out[i] = values[i];
    if (vectors) {
      if (args.residual != nullptr) {
        float r[kCount];
        load_few(args.residual + slot * args.residual_stride + first, r);
        GPU_UNROLL for (int i = 0; i < kCount; ++i) out[i] += r[i];
      }
      if (args.y_float != nullptr) {
        store_values(args.y_float + slot * args.y_stride + first, out);
      } else {
        store_values(args.y + slot * args.y_stride + first, out);
      }
      return;
    }
    GPU_UNROLL for (int i = 0; i < kCount; ++i) {
      if (first + i >= columns) continue;
      if (args.residual != nullptr) out[i] += to_float(args.residual[slot * args.residual_stride + first + i]);
      const int64_t at = slot * args.y_stride + first + i;
      if (args.y_float != nullptr) {
        args.y_float[at] = out[i];
      } else {
        args.y[at] = from_float<Out>(out[i]);
      }
    }
  };
  if (args.silu_mul) {
    // As silu_mul of ops/activation.
    float y[2];
    GPU_UNROLL for (int i = 0; i < 2; ++i) {
      const float gate = v[2 * i];
      y[i] = gate / (1.0f + expf(fminf(88.0f, -gate))) * v[2 * i + 1];
    }
    store(std::integral_constant<int, 2>{}, y, column / 2, n / 2);
  } else {
    store(std::integral_constant<int, 4>{}, v, column, n);
  }
}

namespace detail {

[[noreturn]] inline void refuse_gemm(const std::string& what) {
  throw std::invalid_argument("linear on a GPU: " + what);
}

template <class T>
Dim3 gemm_grid(const LinearArgs<T>& args, int rows, int columns) {
  const int64_t blocks = args.experts.expert == nullptr ? (args.rows + rows - 1) / rows : args.experts.blocks;
  return {static_cast<unsigned>(blocks), static_cast<unsigned>((args.weight.n + columns - 1) / columns)};
}

}  // namespace detail

}  // namespace pf::gpu
