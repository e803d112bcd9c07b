// attend_rows (attention_rows.h) over an int8 cache, nearly all of it in exact integers.
//
// A query row becomes int16 codes with one scale, so that scores are sums of products of int16 pairs: half the
// instructions of float. So do, for each row and chunk, the weights e^(s - m) times the scales of the values. Both
// round at 2^-16 of the largest, some 250 times finer than the codes of the cache. Sums of integers know no order: what
// a row gets depends on its own context alone.
#pragma once
#include "../../cpu/kernels.h"
#include "../../linear/cpu/int_simd.h"
#include "attention_rows.h"

namespace pf::PF_ISA {
namespace {

constexpr float kShortMax = 32767.0f;
// Where the largest magnitude is below this, the inverse of the scale might overflow; such rows count as 0.
constexpr float kTiny = 1e-30f;

// Vectors of positions or channels with so many rows: see vectors_for, but three would leave one of four for a pass of
// its own. Twelve rows of two vectors would fit the registers, but GCC 12 then copies sums about: 359 ms instead of 236
// for a chunk of 512 tokens at 1,800 positions.
constexpr int int8_vectors_for(int rows) { return kAccumulators == 16 && rows > 4 ? 2 : vectors_for(rows); }

// sum + a[0] b[0] + a[1] b[1] in every lane, and the sum to start with; sixteen floats rounded to nearest even, which
// must lie within int16.
#if PF_ISA_LEVEL == PF_ISA_avx512
PF_INLINE Ints zero_ints() { return {_mm512_setzero_si512()}; }
#ifdef __AVX512VNNI__
// Written out, since for the intrinsic GCC 12 copies every sum before and after it.
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
#else
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) { return add(sum, dot2(a, b)); }
#endif
PF_INLINE void store_rounded(int16_t* p, F16x a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a.v)));
}
#elif PF_ISA_LEVEL == PF_ISA_avx2
PF_INLINE Ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
#ifdef __AVXVNNI__
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) {
  return {_mm256_dpwssd_avx_epi32(sum.lo, a.lo, b.lo), _mm256_dpwssd_avx_epi32(sum.hi, a.hi, b.hi)};
}
#else
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) { return add(sum, dot2(a, b)); }
#endif
PF_INLINE void store_rounded(int16_t* p, F16x a) {
  const __m256i shorts = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));  // 0-3 8-11 4-7 12-15
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(shorts, 0xd8));
}
#else
PF_INLINE Ints zero_ints() { return Ints{}; }
PF_INLINE Ints add_dot2(Ints sum, Shorts a, Shorts b) { return add(sum, dot2(a, b)); }
PF_INLINE void store_rounded(int16_t* p, F16x a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int16_t>(nearbyintf(a.v[i]));
}
#endif

PF_INLINE int64_t padded(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

PF_INLINE float inverse_of(float largest) {
  return largest >= kTiny && largest < INFINITY ? kShortMax / largest : 0.0f;
}

// A row block is int16 [pairs of channels][R][2], and its R scales from float R * padded(head_dim) on.
template <>
void load_queries<int8_t>(const float* const* rows, int64_t count, int64_t head_dim, float scale, float* q) {
  int16_t* codes = reinterpret_cast<int16_t*>(q);
  float* scales = q + count * padded(head_dim);
  for (int64_t r = 0; r < count; ++r) {
    const auto sixteen = [&](int64_t d) {
      const int64_t n = head_dim - d;
      return mul(n >= 16 ? load(rows[r] + d) : load_partial(rows[r] + d, n, 0.0f), set1(scale));
    };
    uint32_t largest_bits = 0;
    for (int64_t d = 0; d < head_dim; d += 16) {
      const uint32_t bits = largest_magnitude(sixteen(d), zero());
      if (bits > largest_bits) largest_bits = bits;
    }
    const float largest = bits_to_float(largest_bits);  // not a number if any is none
    const float inverse = inverse_of(largest);
    scales[r] = largest / kShortMax;
    for (int64_t d = 0; d < head_dim; d += 16) {
      int16_t own[16];
      store_rounded(own, inverse == 0.0f ? zero() : mul(sixteen(d), set1(inverse)));
      for (int64_t i = 0; i < 8; ++i) memcpy(codes + ((d / 2 + i) * count + r) * 2, own + 2 * i, 4);
    }
  }
}

// As `score`: scores[r][16 j ...] for J vectors of positions from j on. The sums of groups of channels are added in
// ascending order, times the scales of the keys.
template <int R, int J>
PF_INLINE void score_int8(const int16_t* q, const float* q_scale, const Chunk<int8_t>& chunk, int j, int64_t head_dim,
                          float* scores) {
  constexpr int64_t kPairs = kInt8KeyGroup / 2;
  const int64_t pairs = (head_dim + 1) / 2;
  for (int64_t first = 0; first < pairs; first += kPairs) {
    const int64_t last = first + kPairs < pairs ? first + kPairs : pairs;
    Ints acc[R][J];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < J; ++i) acc[r][i] = zero_ints();
    for (int64_t p = first; p < last; ++p) {
      Shorts k[J];
#pragma GCC unroll 4
      for (int i = 0; i < J; ++i) {
        k[i] = widen(chunk.k[j + i] + p * chunk.k_stride);
        __builtin_prefetch(chunk.v[j + i] + p * 2 * kSub);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Shorts x = repeat2(q + (p * R + r) * 2);
#pragma GCC unroll 4
        for (int i = 0; i < J; ++i) acc[r][i] = add_dot2(acc[r][i], k[i], x);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < J; ++i) {
      const F16x k_scale = load(chunk.k_scale[j + i] + first / kPairs * chunk.k_scale_stride);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* s = scores + r * kChunk + (j + i) * kSub;
        const F16x part = mul(to_float(acc[r][i]), k_scale);
        const F16x sum = first == 0 ? part : add(load(s), part);
        store(s, last == pairs ? mul(sum, set1(q_scale[r])) : sum);
      }
    }
  }
}

// A row's weights times the scales of the values as codes, of which the return value is the scale. Unseen positions,
// whose scales may be anything, have weight and code 0.
PF_INLINE float quantize_weights(const Chunk<int8_t>& chunk, float* s, int16_t* codes) {
  F16x largest = zero();
  for (int j = chunk.first; j < chunk.last; ++j) {
    const F16x weights = load(s + j * kSub);
    const F16x x = where_less(zero(), weights, mul(weights, load(chunk.v_scale[j])), zero());
    store(s + j * kSub, x);
    largest = max(largest, x);
  }
  const float peak = reduce_max(largest);
  const F16x inverse = set1(inverse_of(peak));
  for (int j = chunk.first; j < chunk.last; ++j) store_rounded(codes + j * kSub, mul(load(s + j * kSub), inverse));
  return peak / kShortMax;
}

// As `accumulate`, for D vectors of channels.
template <int R, int D>
PF_INLINE void accumulate_int8(const int16_t* codes, const float* scale, const float* rescale,
                               const Chunk<int8_t>& chunk, int64_t from, int64_t to, int64_t channel, float* o,
                               int64_t stride) {
  Ints acc[R][D];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) acc[r][i] = zero_ints();
  for (int64_t t = from & ~int64_t{1}; t < to; t += 2) {
    const int64_t at = t % kSub / 2 * chunk.v_stride + 2 * channel;
    const int8_t* v = chunk.v[t / kSub] + at;
    for (int line = 0; line < D * 32; line += 64) __builtin_prefetch(chunk.next_k[t / kSub] + at + line);
    Shorts x[D];
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) x[i] = widen(v + i * 32);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Shorts weight = repeat2(codes + r * kChunk + t);
#pragma GCC unroll 4
      for (int i = 0; i < D; ++i) acc[r][i] = add_dot2(acc[r][i], x[i], weight);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) {
      float* to_o = o + r * stride + channel + i * 16;
      store(to_o, fma(to_float(acc[r][i]), set1(scale[r]), mul(load(to_o), set1(rescale[r]))));
    }
}

template <int R>
void attend_int8_rows(const RowSet& rows, const float* q, const Chunk<int8_t>& tile_chunk, int64_t head_dim,
                      float softcap, const RowState& state) {
  Chunk<int8_t> chunk = tile_chunk;
  int64_t from, to;
  if (!narrow(rows, R, &chunk, &from, &to)) return;

  const int16_t* q_codes = reinterpret_cast<const int16_t*>(q);
  const float* q_scale = q + R * padded(head_dim);
  alignas(64) float s[R * kChunk];
  constexpr int kN = int8_vectors_for(R);
  int j = chunk.first;
  for (; j + kN <= chunk.last; j += kN) score_int8<R, kN>(q_codes, q_scale, chunk, j, head_dim, s);
  for (; j < chunk.last; ++j) score_int8<R, 1>(q_codes, q_scale, chunk, j, head_dim, s);

  alignas(64) int16_t codes[R * kChunk];
  float rescale[R], scale[R];
  weigh<int8_t, R>(chunk, rows, softcap, s, state, rescale);
  for (int r = 0; r < R; ++r) {
    scale[r] = quantize_weights(chunk, s + r * kChunk, codes + r * kChunk);
  }

  int64_t c = 0;
  for (; c + kN * 16 <= state.stride; c += kN * 16)
    accumulate_int8<R, kN>(codes, scale, rescale, chunk, from, to, c, state.o, state.stride);
  for (; c < state.stride; c += 16)
    accumulate_int8<R, 1>(codes, scale, rescale, chunk, from, to, c, state.o, state.stride);
}

// The variant for `count` rows, 1 ... kRowBlock.
template <>
AttendRows<int8_t> attend_rows_for<int8_t>(int64_t count) {
#if PF_ISA_LEVEL == PF_ISA_avx512
  static constexpr AttendRows<int8_t> variants[] = {attend_int8_rows<1>, attend_int8_rows<2>, attend_int8_rows<3>,
                                                    attend_int8_rows<4>, attend_int8_rows<5>, attend_int8_rows<6>,
                                                    attend_int8_rows<7>, attend_int8_rows<8>};
#elif PF_ISA_LEVEL == PF_ISA_avx2
  static constexpr AttendRows<int8_t> variants[] = {attend_int8_rows<1>, attend_int8_rows<2>, attend_int8_rows<3>,
                                                    attend_int8_rows<4>, attend_int8_rows<5>, attend_int8_rows<6>};
#else
  static constexpr AttendRows<int8_t> variants[] = {attend_int8_rows<1>, attend_int8_rows<2>};
#endif
  return variants[count - 1];
}

}  // namespace
}  // namespace pf::PF_ISA
