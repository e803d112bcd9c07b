// The words of matrix tiles (../tiles.h) for AMD's matrix cores. GPU_WMMA tells which: WMMA of RDNA 3 in warps of 32,
// or MFMA of CDNA 2 and 3 in warps of 64. The backend gives the instructions as functions of plain registers, d += a b:
//
//   matrix_f16 matrix_bf16    16 x 16 x 16; floats
//   matrix_i8                 16 x 16 x kI8Depth; int32_t
//   matrix_fp8                16 x 16 x 32, only with GPU_HAS_FP8_MMA; floats
//
// What a lane holds is written in ../simt/amd_matrix.cpp. Both instructions give a lane values of one column of D. Here
// their operands change places, which transposes D: then a lane has values of one row, whose column of MFMA are four in
// a run.
#pragma once

namespace pf::gpu {

constexpr int kTileColumns = 16;
constexpr int kLaneRows = 1, kLaneColumns = GPU_WMMA ? 8 : 4, kColumnRun = GPU_WMMA ? 1 : 4;
constexpr int kTileValues = kLaneColumns;
// A step is 32 bytes of k. With WMMA every lane has all of its row's, with MFMA a quarter of the warp eight of them.
constexpr int kRegistersA = GPU_WMMA ? 8 : 2, kRegistersB = kRegistersA, kRegistersOf16 = kRegistersA;

GPU_DEVICE int tile_row(int) { return lane_id() % 16; }
GPU_DEVICE int tile_column(int j) { return GPU_WMMA ? 2 * j + lane_id() / 16 : 4 * (lane_id() / 16) + j; }
GPU_DEVICE int operand_column() { return lane_id() % 16; }

namespace detail {

template <int kWords>
struct alignas(4 * kWords) Words {
  uint32_t word[kWords];
};

}  // namespace detail

template <class Place>
GPU_DEVICE void load_a(uint32_t (&a)[kRegistersA], Place place) {
  constexpr int kWords = GPU_WMMA ? 4 : 2;  // of one access
  const int lane = lane_id();
  GPU_UNROLL for (int i = 0; i < kRegistersA / kWords; ++i) {
    const char* from = static_cast<const char*>(place(lane % 16, GPU_WMMA ? i : lane / 32));
    const auto words = load_vec<detail::Words<kWords>>(from + (GPU_WMMA ? 0 : lane / 16 % 2 * 8));
    GPU_UNROLL for (int w = 0; w < kWords; ++w) a[i * kWords + w] = words.word[w];
  }
}
template <class Place>
GPU_DEVICE void load_b(uint32_t (&b)[kRegistersOf16], Place place) {
  load_a(b, place);
}
GPU_DEVICE void pick_b(const uint32_t (&of16)[kRegistersOf16], int, uint32_t (&b)[kRegistersB]) {
  GPU_UNROLL for (int r = 0; r < kRegistersB; ++r) b[r] = of16[r];
}

// CDNA 3 has another 8-bit float than OCP's: the same bits are half as much, -0 is its NaN, and it has no other NaN. So
// a sum of products is a quarter of what it is meant to be.
template <class T>
constexpr float kSumFactor = 1.0f;
template <>
inline constexpr float kSumFactor<e4m3> = 4.0f;

namespace detail {

GPU_DEVICE uint32_t fnuz_of_ocp(uint32_t word) {
  const uint32_t magnitude = word & 0x7f7f7f7fu;
  const uint32_t not_zero = (magnitude + 0x7f7f7f7fu) & 0x80808080u, nan = (magnitude + 0x01010101u) & 0x80808080u;
  return ((magnitude | (word & not_zero)) & ~(nan - (nan >> 7))) | nan;
}

template <int kFrom, int kCount>
GPU_DEVICE void part_of(const uint32_t (&registers)[kRegistersA], uint32_t (&part)[kCount]) {
  GPU_UNROLL for (int r = 0; r < kCount; ++r) part[r] = registers[kFrom + r];
}

}  // namespace detail

// D is float, or int32_t if T is int8_t.
template <class T, class D>
GPU_DEVICE void mma(D (&d)[kTileValues], const uint32_t (&a)[kRegistersA], const uint32_t (&b)[kRegistersB]) {
  if constexpr (std::is_same_v<T, f16>) {
    matrix_f16(d, b, a);
  } else if constexpr (std::is_same_v<T, bf16>) {
    matrix_bf16(d, b, a);
  } else if constexpr (std::is_same_v<T, int8_t>) {
    if constexpr (kI8Depth == 32) {
      matrix_i8(d, b, a);
    } else {
      uint32_t a_part[kRegistersA / 2], b_part[kRegistersB / 2];
      detail::part_of<0>(a, a_part);
      detail::part_of<0>(b, b_part);
      matrix_i8(d, b_part, a_part);
      detail::part_of<kRegistersA / 2>(a, a_part);
      detail::part_of<kRegistersB / 2>(b, b_part);
      matrix_i8(d, b_part, a_part);
    }
  } else {
#if GPU_HAS_FP8_MMA
    static_assert(std::is_same_v<T, e4m3>);
    uint32_t a_fnuz[kRegistersA], b_fnuz[kRegistersB];
    GPU_UNROLL for (int r = 0; r < kRegistersA; ++r) {
      a_fnuz[r] = detail::fnuz_of_ocp(a[r]);
      b_fnuz[r] = detail::fnuz_of_ocp(b[r]);
    }
    matrix_fp8(d, b_fnuz, a_fnuz);
#endif
  }
}

}  // namespace pf::gpu
