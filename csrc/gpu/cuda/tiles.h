// The words of matrix tiles (../tiles.h) for NVIDIA's mma.sync. Its operands lie in registers as simt/matrix.cpp
// describes.
#pragma once

namespace pf::gpu {

constexpr int kMaxShared = 99 * 1024;  // the least of sm_80 ... sm_120

constexpr int warp_lanes() { return kWarp; }

constexpr int kTileColumns = 8;
constexpr int kLaneRows = 2, kLaneColumns = 2, kColumnRun = 2;
constexpr int kTileValues = kLaneRows * kLaneColumns;
constexpr int kRegistersA = 4, kRegistersB = 2, kRegistersOf16 = 4;

GPU_DEVICE int tile_row(int h) { return lane_id() / 4 + 8 * h; }
GPU_DEVICE int tile_column(int j) { return lane_id() % 4 * 2 + j; }
GPU_DEVICE int operand_column() { return lane_id() / 4; }

template <class Place>
GPU_DEVICE void load_a(uint32_t (&a)[kRegistersA], Place place) {
  const int lane = lane_id();
  load_matrix(a, place(lane % 16, lane / 16));
}
template <class Place>
GPU_DEVICE void load_b(uint32_t (&b)[kRegistersOf16], Place place) {
  const int lane = lane_id();
  load_matrix(b, place(lane / 16 * 8 + lane % 8, lane / 8 % 2));
}
template <class Place>
GPU_DEVICE void load_b_two_steps(uint32_t (&b)[kRegistersOf16], Place place) {
  const int lane = lane_id();
  load_matrix(b, place(lane % 8, lane / 8));
}
GPU_DEVICE void pick_b(const uint32_t (&of16)[kRegistersOf16], int half, uint32_t (&b)[kRegistersB]) {
  b[0] = of16[2 * half];
  b[1] = of16[2 * half + 1];
}

template <class T>
constexpr float kSumFactor = 1.0f;

}  // namespace pf::gpu
