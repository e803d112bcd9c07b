// One block a token. Its threads take pairs of channels, the heads of q first, then those of k, then copy v.
#include "../../../gpu/values.h"
#include "cache.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

GPU_KERNEL(kThreads)
void rope_angles_kernel(const int32_t* positions, const float* inv_freq, float* cs, int64_t cs_stride, int64_t half,
                        double scale) {
  const double position = positions[block_x()];
  float* row = cs + block_x() * cs_stride;
  for (int64_t i = thread_x(); i < half || GPU_PLANTED("rope_angles: past the row"); i += kThreads) {
    // A float product would be wrong by up to 2^-24 of the angle: 0.005 radians at position 100,000.
    const double angle = position * static_cast<double>(inv_freq[i]);
    row[i] = static_cast<float>(cos(angle) * scale);
    row[half + i] = static_cast<float>(sin(angle) * scale);
  }
}

// Rotates pair i of a head, or copies a channel past the pairs; `scale` divides what is written.
template <class T, class C>
GPU_DEVICE void rotate(const T* x, const float* cs, int head_dim, int rot, bool interleaved, float scale, C* y, int i) {
  const int half = rot / 2;
  if (i < half) {
    const int first = interleaved ? 2 * i : i;
    const int second = first + (interleaved ? 1 : GPU_PLANTED("rope: wrong partner") ? half - 1 : half);
    const float a = to_float(x[first]), b = to_float(x[second]), c = cs[i], s = cs[half + i];
    y[first] = from_float<C>((a * c - b * s) / scale);
    y[second] = from_float<C>((b * c + a * s) / scale);
  } else {
    const int at = half + i;  // rot + (i - half)
    if (at < head_dim) y[at] = from_float<C>(to_float(x[at]) / scale);
  }
}

template <class T, class C>
GPU_KERNEL(kThreads)
void rope_cache_kernel(RopeCacheArgs<T, C> args) {
  const int64_t token = block_x();
  const int head_dim = args.cache.head_dim, slot = args.slots[token], thread = static_cast<int>(thread_x());
  // Items of one head: its pairs, then the channels that are not rotated.
  const int items = head_dim - args.rot_dim / 2;
  const float* cs = args.cs + token * args.cs_stride;
  for (int i = thread; i < args.heads * items; i += kThreads) {
    const int at = i / items * head_dim;
    rotate<T, T>(args.q + token * args.q_stride + at, cs, head_dim, args.rot_dim, args.interleaved, 1.0f,
                 args.q_out + token * args.q_out_stride + at, i % items);
  }
  if (slot < 0 && !GPU_PLANTED("cache: any slot")) return;
  for (int i = thread; i < args.cache.kv_heads * items; i += kThreads) {
    const int head = i / items;
    rotate<T, C>(args.k + token * args.k_stride + head * head_dim, cs, head_dim, args.rot_dim, args.interleaved,
                 args.cache.k_scale, args.cache.k + args.cache.offset(slot, head), i % items);
  }
  for (int i = thread; i < args.cache.kv_heads * head_dim; i += kThreads) {
    const float value = to_float(args.v[token * args.v_stride + i]);
    args.cache.v[args.cache.offset(slot, i / head_dim) + i % head_dim] = from_float<C>(value / args.cache.v_scale);
  }
}

// Grid: copies, keys or values, slices of a block.
GPU_KERNEL(kThreads)
void copy_blocks_kernel(const char* from_k, const char* from_v, const int32_t* from_blocks, char* to_k, char* to_v,
                        const int32_t* to_blocks, int64_t block_bytes) {
  const int64_t at = (int64_t{block_z()} * kThreads + thread_x()) * 16;
  if (at >= block_bytes && !GPU_PLANTED("copy_blocks: no guard")) return;
  if (to_blocks[block_x()] < 0) return;
  const char* from = (block_y() == 0 ? from_k : from_v) + from_blocks[block_x()] * block_bytes;
  char* to = (block_y() == 0 ? to_k : to_v) + to_blocks[block_x()] * block_bytes;
  store_vec(to + at, load_vec<Vec16>(from + at));
}

}  // namespace

template <class C>
void copy_blocks(const KvLayer<C>& from, const int32_t* from_blocks, const KvLayer<C>& to, const int32_t* to_blocks,
                 int count, Stream stream) {
  if (count == 0) return;
  // A multiple of 16 bytes, since a block has a multiple of 16 tokens.
  const int64_t bytes = from.offset(1, 0, 0) * static_cast<int64_t>(sizeof(C));
  const Dim3 grid = {static_cast<unsigned>(count), 2, static_cast<unsigned>((bytes / 16 + kThreads - 1) / kThreads)};
  GPU_LAUNCH(copy_blocks_kernel, grid, kThreads, 0, stream, reinterpret_cast<const char*>(from.k),
             reinterpret_cast<const char*>(from.v), from_blocks, reinterpret_cast<char*>(to.k),
             reinterpret_cast<char*>(to.v), to_blocks, bytes);
}

template void copy_blocks(const KvLayer<float>&, const int32_t*, const KvLayer<float>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<f16>&, const int32_t*, const KvLayer<f16>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<bf16>&, const int32_t*, const KvLayer<bf16>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<e4m3>&, const int32_t*, const KvLayer<e4m3>&, const int32_t*, int, Stream);

void rope_angles(const int32_t* positions, const float* inv_freq, float* cs, int64_t cs_stride, int64_t tokens,
                 int64_t half, double scale, Stream stream) {
  if (tokens == 0) return;
  GPU_LAUNCH(rope_angles_kernel, Dim3{static_cast<unsigned>(tokens)}, kThreads, 0, stream, positions, inv_freq, cs,
             cs_stride, half, scale);
}

template <class T, class C>
void rope_cache(const RopeCacheArgs<T, C>& args, Stream stream) {
  if (args.tokens == 0) return;
  GPU_LAUNCH((rope_cache_kernel<T, C>), Dim3{static_cast<unsigned>(args.tokens)}, kThreads, 0, stream, args);
}

template void rope_cache(const RopeCacheArgs<float, float>&, Stream);
template void rope_cache(const RopeCacheArgs<f16, f16>&, Stream);
template void rope_cache(const RopeCacheArgs<bf16, bf16>&, Stream);
template void rope_cache(const RopeCacheArgs<float, f16>&, Stream);
template void rope_cache(const RopeCacheArgs<float, e4m3>&, Stream);
template void rope_cache(const RopeCacheArgs<f16, e4m3>&, Stream);
template void rope_cache(const RopeCacheArgs<bf16, e4m3>&, Stream);

}  // namespace pf::gpu
