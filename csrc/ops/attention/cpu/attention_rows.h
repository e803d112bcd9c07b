// The arithmetic of attention: a few query rows against one chunk of 64 cached positions.
//
// Rows are (query token, query head) pairs that read the same KV head. Every row has its own running state (m, l, o):
// the largest score so far, the sum of e^(score - m) and the sum of e^(score - m) * v (online softmax: M. Milakov and
// N. Gimelshein, 2018). Per row, all of it happens in an order that depends only on the row's own visible positions:
//   scores     ascending channel, one fused multiply-add a step
//   row sums   four vectors of 16 positions, (0 + 1) + (2 + 3), then the tree of reduce_add
//   o          ascending position, one fused multiply-add a step
// Rows that share a chunk differ in what they see of it. A position that a row does not see gets score -inf and weight
// exactly 0; adding 0 * v to an accumulator changes no bit of it (but the sign of a zero, which write_rows clears), and
// v is finite since some row of the tile sees it.
#pragma once
#include <math.h>

#include "../../cpu/simd.h"
#include "../attention.h"
#include "codes.h"

namespace pf::PF_ISA {
namespace {

constexpr int kChunk = 64;            // positions a softmax step
constexpr int kSub = 16;              // positions a vector; divides every block size
constexpr int kSubs = kChunk / kSub;  // vectors a chunk

// Rows computed at once, so that accumulators, one K or V vector and one broadcast fit the registers: 16 of 8 floats on
// AVX2 (a vector here is two of them), 32 of 16 floats on AVX-512.
#if PF_ISA_LEVEL == PF_ISA_avx512
constexpr int kRowBlock = 8;
constexpr int kAccumulators = 16;
#elif PF_ISA_LEVEL == PF_ISA_avx2
constexpr int kRowBlock = 6;
constexpr int kAccumulators = 6;
#else
constexpr int kRowBlock = 2;
constexpr int kAccumulators = 2;
#endif

// How many vectors of positions (scores) or channels (values) go with `rows` rows: enough independent chains to hide
// the latency of a multiply-add when there are few rows.
constexpr int vectors_for(int rows) {
  const int n = kAccumulators / rows;
  return n < 1 ? 1 : n > 4 ? 4 : n;
}

PF_INLINE F16x load_kv(const float* p) { return load(p); }
PF_INLINE F16x load_kv(const uint16_t* p) { return load_half(p); }
template <class T>
PF_INLINE F16x load_kv_partial(const T* p, int64_t n) {
  T t[16] = {};
  for (int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load_kv(t);
}

// What the rows of a tile see.
struct RowSet {
  const int64_t* ends;  // a row sees positions below this
  int64_t window;       // and no more than the last `window` of them; 0 = all
  int64_t end(int64_t row) const { return ends[row]; }
  int64_t begin(int64_t row) const { return window > 0 && ends[row] > window ? ends[row] - window : 0; }
  RowSet from(int64_t row) const { return {ends + row, window}; }
};

// Running state of rows; o has `stride` floats a row, a multiple of 16.
struct RowState {
  float* m;
  float* l;
  float* o;
  int64_t stride;
  RowState from(int64_t row) const { return {m + row, l + row, o + row * stride, stride}; }
};

// A chunk's keys and values of one KV head: vector j covers positions base + 16 j ..., pointers are set for j in
// [first, last) only, since blocks outside may not exist.
template <class T>
struct Chunk {
  int64_t base;
  int first, last;
  const T* k[kSubs];  // channel d (codes: pair d of channels) of the 16 positions at k[j] + d * k_stride
  const T* v[kSubs];  // position t (codes: pair t of positions) of the 16 at v[j] + t * v_stride
  int64_t k_stride, v_stride;
  const T* next_k[kSubs];                          // keys that will be read after this chunk, or any
  const typename Codes<T>::Scale* k_scale[kSubs];  // codes only: of the first group of channels of the 16 positions
  const typename Codes<T>::Scale* v_scale[kSubs];  // codes only: of the 16 positions
  int64_t to_values;                               // from a block's keys
  int64_t k_scale_stride;                          // from one group of channels to the next
};

// Floats of one query row as attend_rows reads it: [head_dim][R] for a block of R rows, or what codes make of it.
PF_INLINE int64_t query_stride(int64_t head_dim) { return (head_dim + 15) / 16 * 16 + 16; }

// Queries of a row block, scaled: row r is read from rows[r].
template <class T>
void load_queries(const float* const* rows, int64_t count, int64_t head_dim, float scale, float* q) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t d = 0; d < head_dim; ++d) q[d * count + r] = rows[r][d] * scale;
  }
}

PF_INLINE float exp_one(float x) {
  float y[16];
  store(y, exp(set1(x)));
  return y[0];
}

// tanh(x) = 1 - 2 / (e^2x + 1); its absolute error of 2^-23 is what matters here, since scores are added, not scaled.
PF_INLINE F16x tanh(F16x x) {
  const F16x e = exp(min(set1(88.0f), add(x, x)));
  return sub(set1(1.0f), div(set1(2.0f), add(e, set1(1.0f))));
}

// *x * y + sum. With the intrinsic GCC loads *x once for all its products, and such loads take longer than reading the
// factor anew in each instruction does.
PF_INLINE F16x fma_one(const float* x, F16x y, F16x sum) {
#if PF_ISA_LEVEL == PF_ISA_avx512
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum.v) : "v"(y.v), "m"(*x));
  return sum;
#else
  return fma(set1(*x), y, sum);
#endif
}

// scores[r][16 j ...] for J vectors of positions from j on; q is [head_dim][R], already scaled.
template <class T, int R, int J>
PF_INLINE void score(const float* q, const Chunk<T>& chunk, int j, int64_t head_dim, float* scores) {
  F16x acc[R][J];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < J; ++i) acc[r][i] = zero();
  const T *k[J], *v[J];
#pragma GCC unroll 4
  for (int i = 0; i < J; ++i) {
    k[i] = chunk.k[j + i];
    v[i] = chunk.v[j + i];
  }
  const int64_t k_stride = chunk.k_stride;
  for (const float* const end = q + head_dim * R; q < end; q += R) {
#pragma GCC unroll 4
    for (int i = 0; i < J; ++i) {
      const F16x x = load_kv(k[i]);
      // The values, 16 a channel, come while scores are computed: a third of the time of attention at batch 32, whose
      // cache is read from memory.
      __builtin_prefetch(v[i]);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][i] = fma_one(q + r, x, acc[r][i]);
      k[i] += k_stride;
      v[i] += kSub;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < J; ++i) store(scores + r * kChunk + (j + i) * kSub, acc[r][i]);
}

// Turns one row's scores into weights e^(s - peak) and returns their sum. Vectors [first, last) of a chunk are seen.
PF_INLINE float weigh_row(int first, int last, float peak, float* s) {
  const F16x base = set1(peak == -INFINITY ? 0.0f : peak);  // a row that has seen nothing yet: all weights become 0
  F16x sums[kSubs] = {zero(), zero(), zero(), zero()};
#pragma GCC unroll 4
  for (int j = first; j < last; ++j) {
    sums[j] = exp(sub(load(s + j * kSub), base));
    store(s + j * kSub, sums[j]);
  }
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

// Turns the scores of R rows into weights e^(s - m) and updates m and l. rescale[r] is what o has to be multiplied
// with. Each step is taken for all rows before the next one, since within a row all wait for what came before.
template <class T, int R>
PF_INLINE void weigh(const Chunk<T>& chunk, const RowSet& rows, float softcap, float* scores, const RowState& state,
                     float* rescale) {
  const int64_t from = chunk.first * kSub, to = chunk.last * kSub;
  alignas(64) float change[16] = {};
  for (int r = 0; r < R; ++r) {
    float* s = scores + r * kChunk;
    if (softcap != 0.0f) {
      const F16x cap = set1(softcap);
      for (int64_t i = from; i < to; i += kSub) store(s + i, mul(cap, tanh(div(load(s + i), cap))));
    }
    const int64_t begin = rows.begin(r), end = rows.end(r);
    for (int64_t i = from; i < to && chunk.base + i < begin; ++i) s[i] = -INFINITY;
    for (int64_t i = to - 1; i >= from && chunk.base + i >= end; --i) s[i] = -INFINITY;
    F16x largest = set1(-INFINITY);
    for (int64_t i = from; i < to; i += kSub) largest = max(largest, load(s + i));
    const float in_chunk = reduce_max(largest), before = state.m[r];
    const float peak = before > in_chunk ? before : in_chunk;
    state.m[r] = peak;
    change[r] = peak == before ? 0.0f : before - peak;
  }
  store(change, exp(load(change)));
  const bool whole = chunk.first == 0 && chunk.last == kSubs;
  for (int r = 0; r < R; ++r) {
    float* s = scores + r * kChunk;
    const float sum = whole ? weigh_row(0, kSubs, state.m[r], s) : weigh_row(chunk.first, chunk.last, state.m[r], s);
    rescale[r] = change[r];
    state.l[r] = state.l[r] * change[r] + sum;
  }
}

// o[r][channels] = o * rescale[r] + weights . v for D vectors of channels; the last may have fewer than 16 (`width`).
template <class T, int R, int D, bool kPartial>
PF_INLINE void accumulate(const float* weights, const float* rescale, const Chunk<T>& chunk, int64_t from, int64_t to,
                          int64_t channel, int64_t width, float* o, int64_t stride) {
  F16x acc[R][D];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) acc[r][i] = mul(load(o + r * stride + channel + i * 16), set1(rescale[r]));
  for (int64_t t = from; t < to;) {
    const int64_t at = t % kSub * chunk.v_stride + channel, left = kSub - t % kSub;
    const T* v = chunk.v[t / kSub] + at;
    const T* ahead = chunk.next_k[t / kSub] + at;
    for (const int64_t end = to - t < left ? to : t + left; t < end; ++t) {
      for (size_t line = 0; line < D * 16 * sizeof(T); line += 64) __builtin_prefetch(ahead + line / sizeof(T));
#pragma GCC unroll 4
      for (int i = 0; i < D; ++i) {
        const F16x x = kPartial ? load_kv_partial(v, width) : load_kv(v + i * 16);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r][i] = fma_one(weights + r * kChunk + t, x, acc[r][i]);
      }
      v += chunk.v_stride;
      ahead += chunk.v_stride;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < D; ++i) store(o + r * stride + channel + i * 16, acc[r][i]);
}

// The part of a chunk that R rows see, [*from, *to) in it. False if that is nothing.
template <class T>
PF_INLINE bool narrow(const RowSet& rows, int64_t R, Chunk<T>* chunk, int64_t* from, int64_t* to) {
  *from = rows.begin(0) - chunk->base;
  *to = rows.end(R - 1) - chunk->base;
  if (*from < 0) *from = 0;
  if (*to > kChunk) *to = kChunk;
  if (*from >= *to) return false;
  chunk->first = static_cast<int>(*from / kSub);
  chunk->last = static_cast<int>((*to + kSub - 1) / kSub);
  return true;
}

// Advances R rows by one chunk. `rows` and `state` begin with them, and q is theirs alone. Their ends ascend.
template <class T, int R>
void attend_rows(const RowSet& rows, const float* q, const Chunk<T>& tile_chunk, int64_t head_dim, float softcap,
                 const RowState& state) {
  Chunk<T> chunk = tile_chunk;
  int64_t from, to;
  if (!narrow(rows, R, &chunk, &from, &to)) return;

  alignas(64) float s[R * kChunk];
  constexpr int kJ = vectors_for(R);
  int j = chunk.first;
  for (; j + kJ <= chunk.last; j += kJ) score<T, R, kJ>(q, chunk, j, head_dim, s);
  for (; j < chunk.last; ++j) score<T, R, 1>(q, chunk, j, head_dim, s);

  float rescale[R];
  weigh<T, R>(chunk, rows, softcap, s, state, rescale);

  constexpr int kD = vectors_for(R);
  int64_t c = 0;
  for (; c + kD * 16 <= head_dim; c += kD * 16)
    accumulate<T, R, kD, false>(s, rescale, chunk, from, to, c, 16, state.o, state.stride);
  for (; c + 16 <= head_dim; c += 16)
    accumulate<T, R, 1, false>(s, rescale, chunk, from, to, c, 16, state.o, state.stride);
  if (c < head_dim) accumulate<T, R, 1, true>(s, rescale, chunk, from, to, c, head_dim - c, state.o, state.stride);
}

template <class T>
using AttendRows = void (*)(const RowSet&, const float*, const Chunk<T>&, int64_t, float, const RowState&);

// The variant for `count` rows, 1 ... kRowBlock.
template <class T>
AttendRows<T> attend_rows_for(int64_t count) {
#if PF_ISA_LEVEL == PF_ISA_avx512
  static constexpr AttendRows<T> variants[] = {attend_rows<T, 1>, attend_rows<T, 2>, attend_rows<T, 3>,
                                               attend_rows<T, 4>, attend_rows<T, 5>, attend_rows<T, 6>,
                                               attend_rows<T, 7>, attend_rows<T, 8>};
#elif PF_ISA_LEVEL == PF_ISA_avx2
  static constexpr AttendRows<T> variants[] = {attend_rows<T, 1>, attend_rows<T, 2>, attend_rows<T, 3>,
                                               attend_rows<T, 4>, attend_rows<T, 5>, attend_rows<T, 6>};
#else
  static constexpr AttendRows<T> variants[] = {attend_rows<T, 1>, attend_rows<T, 2>};
#endif
  return variants[count - 1];
}

void clear_state(const RowState& state, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    state.m[r] = -INFINITY;
    state.l[r] = 0.0f;
    for (int64_t c = 0; c < state.stride; c += 16) store(state.o + r * state.stride + c, zero());
  }
}

// Adds the state of a later split to that of all earlier ones. A split of which a row saw nothing (l = 0) changes
// nothing.
void merge_state(const RowState& total, const RowState& part, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    if (part.l[r] == 0.0f) continue;
    const float peak = total.m[r] > part.m[r] ? total.m[r] : part.m[r];
    const float keep = exp_one(total.m[r] - peak), take = exp_one(part.m[r] - peak);
    total.m[r] = peak;
    total.l[r] = total.l[r] * keep + part.l[r] * take;
    for (int64_t c = 0; c < total.stride; c += 16) {
      float* o = total.o + r * total.stride + c;
      store(o, fma(load(part.o + r * part.stride + c), set1(take), mul(load(o), set1(keep))));
    }
  }
}

}  // namespace
}  // namespace pf::PF_ISA
