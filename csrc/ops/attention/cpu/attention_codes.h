// attend_rows (attention_rows.h) over a cache of int8 or int16 codes, nearly all of it in exact integers.
//
// Each kKeyGroup channels of a query row become int16 codes with one scale, so that scores are sums of products of
// int16 pairs: half the instructions of float. So do, for each row and chunk, the weights e^(s - m) times the scales of
// the values. Over int8 both round at 2^-16 of the largest, some 250 times finer than the codes of the cache, over
// int16 at 2^-14, as fine as these. Sums of integers know no order: what a row gets depends on its own context alone.
#pragma once
#include "attention_rows.h"
#include "codes.h"

namespace pf::PF_ISA {
namespace {

// Where the largest magnitude is below this, the inverse of the scale might overflow; such rows count as 0.
constexpr float kTiny = 1e-30f;

// With so few rows a chunk takes less time than memory needs to bring the next one: fetched to L2 as a whole, besides
// what comes to L1 half a chunk before it is read.
constexpr int kFewRows = 4;

// Vectors of positions or channels with so many rows: see vectors_for, but three would leave one of four for a pass of
// its own. Twelve rows of two vectors would fit the registers, but GCC 12 then copies sums about: 359 ms instead of 236
// for a chunk of 512 tokens at 1,800 positions.
constexpr int code_vectors_for(int rows) { return kAccumulators == 16 && rows > 4 ? 2 : vectors_for(rows); }

PF_INLINE float inverse_of(float largest, float largest_code) {
  return largest >= kTiny && largest < INFINITY ? largest_code / largest : 0.0f;
}

// A row block is int16 [pairs of channels][R][2], and from float R * padded(head_dim) / 2 on its scales
// [groups of channels][R].
template <class T>
void load_query_codes(const float* const* rows, int64_t count, int64_t head_dim, float scale, float* q) {
  int16_t* codes = reinterpret_cast<int16_t*>(q);
  float* scales = q + count * padded(head_dim) / 2;
  for (int64_t r = 0; r < count; ++r) {
    const auto sixteen = [&](int64_t d) {
      const int64_t n = head_dim - d;
      return mul(n >= 16 ? load(rows[r] + d) : load_partial(rows[r] + d, n, 0.0f), set1(scale));
    };
    for (int64_t first = 0; first < head_dim; first += kKeyGroup) {
      const int64_t last = head_dim - first < kKeyGroup ? head_dim : first + kKeyGroup;
      uint32_t largest_bits = 0;
      for (int64_t d = first; d < last; d += 16) {
        const uint32_t bits = largest_magnitude(sixteen(d), zero());
        if (bits > largest_bits) largest_bits = bits;
      }
      const float largest = bits_to_float(largest_bits);  // not a number if any is none
      const float inverse = inverse_of(largest, Codes<T>::kLargestQuery);
      scales[first / kKeyGroup * count + r] = largest / Codes<T>::kLargestQuery;
      for (int64_t d = first; d < last; d += 16) {
        int16_t own[16];
        store_rounded(own, inverse == 0.0f ? zero() : mul(sixteen(d), set1(inverse)));
        for (int64_t i = 0; i < 8; ++i) memcpy(codes + ((d / 2 + i) * count + r) * 2, own + 2 * i, 4);
      }
    }
  }
}
template <>
void load_queries<int8_t>(const float* const* rows, int64_t count, int64_t head_dim, float scale, float* q) {
  load_query_codes<int8_t>(rows, count, head_dim, scale, q);
}
template <>
void load_queries<int16_t>(const float* const* rows, int64_t count, int64_t head_dim, float scale, float* q) {
  load_query_codes<int16_t>(rows, count, head_dim, scale, q);
}

// As `score`: scores[r][16 j ...] for J vectors of positions from j on. The sums of groups of channels are added in
// ascending order, times the scales of keys and queries.
template <class T, int R, int J>
PF_INLINE void score_codes(const int16_t* q, const float* q_scale, const Chunk<T>& chunk, int j, int64_t head_dim,
                           float* scores) {
  constexpr int64_t kPairs = kKeyGroup / 2;
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
        k[i] = load_codes(chunk.k[j + i] + p * chunk.k_stride);
        __builtin_prefetch(chunk.v[j + i] + p * 2 * kSub);
        if (R <= kFewRows) __builtin_prefetch(chunk.next_k[j + i] + p * 2 * kSub, 0, 2);
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
      const F16x k_scale = load_scales(chunk.k_scale[j + i] + first / kPairs * chunk.k_scale_stride);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* s = scores + r * kChunk + (j + i) * kSub;
        const F16x part = mul(to_float(acc[r][i]), k_scale), scale = set1(q_scale[first / kPairs * R + r]);
        store(s, first == 0 ? mul(part, scale) : fma(part, scale, load(s)));
      }
    }
  }
}

// A row's weights times the scales of the values as codes, of which the return value is the scale. Unseen positions,
// whose scales may be anything, have weight and code 0.
template <class T>
PF_INLINE float quantize_weights(const Chunk<T>& chunk, float* s, int16_t* codes) {
  F16x largest = zero();
  for (int j = chunk.first; j < chunk.last; ++j) {
    const F16x weights = load(s + j * kSub);
    const F16x x = where_less(zero(), weights, mul(weights, load_scales(chunk.v_scale[j])), zero());
    store(s + j * kSub, x);
    largest = max(largest, x);
  }
  const float peak = reduce_max(largest);
  const F16x inverse = set1(inverse_of(peak, Codes<T>::kLargestWeight));
  for (int j = chunk.first; j < chunk.last; ++j) store_rounded(codes + j * kSub, mul(load(s + j * kSub), inverse));
  return peak / Codes<T>::kLargestWeight;
}

// As `accumulate`, for D vectors of channels.
template <class T, int R, int D>
PF_INLINE void accumulate_codes(const int16_t* codes, const float* scale, const float* rescale, const Chunk<T>& chunk,
                                int64_t from, int64_t to, int64_t channel, float* o, int64_t stride) {
  Ints acc[R][D];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) acc[r][i] = zero_ints();
  for (int64_t t = from & ~int64_t{1}; t < to; t += 2) {
    const int64_t at = t % kSub / 2 * chunk.v_stride + 2 * channel;
    const T *v = chunk.v[t / kSub] + at, *ahead = chunk.next_k[t / kSub] + at;
    for (size_t line = 0; line < D * 32 * sizeof(T); line += 64) {
      __builtin_prefetch(ahead + line / sizeof(T));
      if (R <= kFewRows) __builtin_prefetch(ahead + chunk.to_values + line / sizeof(T), 0, 2);
    }
    Shorts x[D];
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) x[i] = load_codes(v + i * 32);
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

template <class T, int R>
void attend_code_rows(const RowSet& rows, const float* q, const Chunk<T>& tile_chunk, int64_t head_dim, float softcap,
                      const RowState& state) {
  Chunk<T> chunk = tile_chunk;
  int64_t from, to;
  if (!narrow(rows, R, &chunk, &from, &to)) return;

  const int16_t* q_codes = reinterpret_cast<const int16_t*>(q);
  const float* q_scale = q + R * padded(head_dim) / 2;
  alignas(64) float s[R * kChunk];
  constexpr int kN = code_vectors_for(R);
  int j = chunk.first;
  for (; j + kN <= chunk.last; j += kN) score_codes<T, R, kN>(q_codes, q_scale, chunk, j, head_dim, s);
  for (; j < chunk.last; ++j) score_codes<T, R, 1>(q_codes, q_scale, chunk, j, head_dim, s);

  alignas(64) int16_t codes[R * kChunk];
  float rescale[R], scale[R];
  weigh<T, R>(chunk, rows, softcap, s, state, rescale);
  for (int r = 0; r < R; ++r) {
    scale[r] = quantize_weights(chunk, s + r * kChunk, codes + r * kChunk);
  }

  int64_t c = 0;
  for (; c + kN * 16 <= state.stride; c += kN * 16)
    accumulate_codes<T, R, kN>(codes, scale, rescale, chunk, from, to, c, state.o, state.stride);
  for (; c < state.stride; c += 16)
    accumulate_codes<T, R, 1>(codes, scale, rescale, chunk, from, to, c, state.o, state.stride);
}

// The variant for `count` rows, 1 ... kRowBlock.
template <class T>
AttendRows<T> attend_code_rows_for(int64_t count) {
#if PF_ISA_LEVEL == PF_ISA_avx512
  static constexpr AttendRows<T> variants[] = {attend_code_rows<T, 1>, attend_code_rows<T, 2>, attend_code_rows<T, 3>,
                                               attend_code_rows<T, 4>, attend_code_rows<T, 5>, attend_code_rows<T, 6>,
                                               attend_code_rows<T, 7>, attend_code_rows<T, 8>};
#elif PF_ISA_LEVEL == PF_ISA_avx2
  static constexpr AttendRows<T> variants[] = {attend_code_rows<T, 1>, attend_code_rows<T, 2>, attend_code_rows<T, 3>,
                                               attend_code_rows<T, 4>, attend_code_rows<T, 5>, attend_code_rows<T, 6>};
#else
  static constexpr AttendRows<T> variants[] = {attend_code_rows<T, 1>, attend_code_rows<T, 2>};
#endif
  return variants[count - 1];
}
template <>
AttendRows<int8_t> attend_rows_for<int8_t>(int64_t count) {
  return attend_code_rows_for<int8_t>(count);
}
template <>
AttendRows<int16_t> attend_rows_for<int16_t>(int64_t count) {
  return attend_code_rows_for<int16_t>(count);
}

}  // namespace
}  // namespace pf::PF_ISA
