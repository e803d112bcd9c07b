// One block a token. Its threads take pairs of channels, the heads of q first, then those of k, then copy v.
#include <type_traits>

#include "../../../gpu/values.h"
#include "cache.h"
#include "mrope.h"

namespace pf::gpu {
namespace {

constexpr int kThreads = 128;

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

// Channel `c` of a head, turned as rotate() does.
template <class T>
GPU_DEVICE float rotated(const T* x, const float* cs, int rot, bool interleaved, int c) {
  if (c >= rot) return to_float(x[c]);
  const int half = rot / 2, i = interleaved ? c / 2 : c % half;
  const int first = interleaved ? 2 * i : i, second = first + (interleaved ? 1 : half);
  const float a = to_float(x[first]), b = to_float(x[second]);
  return c == first ? a * cs[i] - b * cs[half + i] : b * cs[i] + a * cs[half + i];
}

// A warp writes one head. Magnitudes are compared by their bits, which puts infinities and NaNs above all others: such
// a head gets a scale of NaN.
template <class F>
GPU_DEVICE void write_int8(int head_dim, int8_t* to, float* scale, F value_of) {
  const int step = opaque(kWarp);  // unrolled loops would spill
  uint32_t largest = 0;
  for (int c = lane_id(); c < head_dim; c += step) {
    const uint32_t bits = detail::as_bits(value_of(c)) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  for (int mask = GPU_PLANTED("cache: half of the lanes") ? kWarp / 4 : kWarp / 2; mask > 0; mask /= 2) {
    const uint32_t other = shuffle_xor(largest, mask);
    largest = other > largest ? other : largest;
  }
  const float s = largest >= 0x7f800000u ? NAN : detail::as_float(largest) / 127.0f;
  for (int c = lane_id(); c < head_dim; c += step) {
    to[c] = s > 0.0f ? static_cast<int8_t>(rintf(value_of(c) / s)) : int8_t{0};
  }
  if (lane_id() == 0) *scale = s;
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
  if constexpr (std::is_same_v<C, int8_t>) {
    auto vectors = args.cache;
    vectors.head_dim = 1;  // its offsets count vectors, as scales do; dividing them by the channels would spill
    for (int head = warp_id(); head < args.cache.kv_heads; head += kThreads / kWarp) {
      const int64_t scale_at = vectors.offset(slot, head), at = scale_at * head_dim;
      const T* k = args.k + token * args.k_stride + head * head_dim;
      const T* v = args.v + token * args.v_stride + head * head_dim;
      write_int8(head_dim, args.cache.k + at, args.cache.k_scales + scale_at,
                 [&](int c) { return rotated(k, cs, args.rot_dim, args.interleaved, c); });
      write_int8(head_dim, args.cache.v + at, args.cache.v_scales + scale_at, [&](int c) { return to_float(v[c]); });
    }
  } else {
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

// `bytes` of each block: a multiple of 16, since a block has a multiple of 16 tokens.
template <class E>
void copy_bytes(const E* from_k, const E* from_v, const int32_t* from_blocks, E* to_k, E* to_v,
                const int32_t* to_blocks, int64_t bytes, int count, Stream stream) {
  const Dim3 grid = {static_cast<unsigned>(count), 2, static_cast<unsigned>((bytes / 16 + kThreads - 1) / kThreads)};
  GPU_LAUNCH(copy_blocks_kernel, grid, kThreads, 0, stream, reinterpret_cast<const char*>(from_k),
             reinterpret_cast<const char*>(from_v), from_blocks, reinterpret_cast<char*>(to_k),
             reinterpret_cast<char*>(to_v), to_blocks, bytes);
}

}  // namespace

template <class C>
void copy_blocks(const KvLayer<C>& from, const int32_t* from_blocks, const KvLayer<C>& to, const int32_t* to_blocks,
                 int count, Stream stream) {
  if (count == 0) return;
  copy_bytes(from.k, from.v, from_blocks, to.k, to.v, to_blocks, from.offset(1, 0, 0) * static_cast<int64_t>(sizeof(C)),
             count, stream);
  if constexpr (std::is_same_v<C, int8_t>) {
    copy_bytes(from.k_scales, from.v_scales, from_blocks, to.k_scales, to.v_scales, to_blocks,
               int64_t{from.kv_heads} * from.block_size * static_cast<int64_t>(sizeof(float)), count, stream);
  }
}

template void copy_blocks(const KvLayer<float>&, const int32_t*, const KvLayer<float>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<f16>&, const int32_t*, const KvLayer<f16>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<bf16>&, const int32_t*, const KvLayer<bf16>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<e4m3>&, const int32_t*, const KvLayer<e4m3>&, const int32_t*, int, Stream);
template void copy_blocks(const KvLayer<int8_t>&, const int32_t*, const KvLayer<int8_t>&, const int32_t*, int, Stream);

void rope_angles(const int32_t* positions, const float* inv_freq, float* cs, int64_t cs_stride, int64_t tokens,
                 int64_t half, double scale, Stream stream) {
  const int pairs = static_cast<int>(half);  // one axis turns them all
  mrope_angles({positions, inv_freq, cs, cs_stride, tokens, pairs, {pairs, 0, 0}, false, scale}, stream);
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
template void rope_cache(const RopeCacheArgs<bf16, e4m3>&, Stream);
template void rope_cache(const RopeCacheArgs<float, int8_t>&, Stream);
template void rope_cache(const RopeCacheArgs<bf16, int8_t>&, Stream);

}  // namespace pf::gpu
