// Kernels of the quantized formats: exact integer dot products of a group, then fp32 (linear.h has the formulas).
//
// Four-bit codes: 8 quads of u4 x s8 pairs accumulate in int16 without overflow, since 8 * 2 * 15 * 127 = 30,480; one
// madd then makes int32. Six-bit codes: 2 quads fit (4 * 63 * 127 = 32,004), and the madd multiplies with the scale.
// Eight-bit codes: |w| as u8 times a with the sign of w; a pair is at most 2 * 128 * 127 = 32,512, exact even for -128.
// VNNI sums into int32 without these bounds: eight-bit codes are w + 128, and 128 * sum(a) is taken off again.
#include "tile_kernels.h"

namespace pf::PF_ISA {
namespace {

// Rows that share one pass over a tile. Sixteen AVX2 registers hold 6 rows of two accumulators when the tile has been
// unpacked, and 4 beside the codes being unpacked. Generic code gains nothing from more than one.
constexpr int kPackedRows = PF_ISA_LEVEL == PF_ISA_avx512 ? 8 : PF_ISA_LEVEL == PF_ISA_avx2 ? 4 : 1;
constexpr int kPanelRows = PF_ISA_LEVEL == PF_ISA_avx512 ? 8 : PF_ISA_LEVEL == PF_ISA_avx2 ? 6 : 1;
// Rows from which a tile is unpacked first. Measured: six-bit codes 139 -> 179 GOP/s a thread with AVX2 (Zen 4),
// four-bit ones 179 -> 205 on Zen 3 and no difference on Zen 4. With AVX-512 a pass serves 8 rows and unpacking for
// each of them costs less than reading a panel: 316 against 300 GOP/s.
constexpr int64_t kUnpackFrom = PF_ISA_LEVEL == PF_ISA_avx512 ? INT64_MAX : 9;

// --- sources: a group of codes of a tile, packed or unpacked
// -------------------------------------------------------------

template <int J>
PF_INLINE Bytes nibbles(const uint8_t (&q)[4][kTile][4]) {
  return field<4, J / 4>(load_bytes(q[J % 4]));
}

struct GroupQ4_0 {
  static constexpr size_t kBytes = sizeof(TileQ4_0);  // a group of a tile
  const TileQ4_0& tile;
  GroupQ4_0(const uint8_t* tiles, int64_t g) : tile(reinterpret_cast<const TileQ4_0*>(tiles)[g]) {}
  template <int J>
  PF_INLINE Bytes quad() const {
    return nibbles<J>(tile.q);
  }
  PF_INLINE F16x scale() const { return load_half(tile.d); }
  PF_INLINE F16x min() const { return mul(load_half(tile.d), set1(-8.0f)); }
};

struct GroupQ4_1 {
  static constexpr size_t kBytes = sizeof(TileQ4_1);  // a group of a tile
  const TileQ4_1& tile;
  GroupQ4_1(const uint8_t* tiles, int64_t g) : tile(reinterpret_cast<const TileQ4_1*>(tiles)[g]) {}
  template <int J>
  PF_INLINE Bytes quad() const {
    return nibbles<J>(tile.q);
  }
  PF_INLINE F16x scale() const { return load_half(tile.d); }
  PF_INLINE F16x min() const { return load_half(tile.m); }
};

struct GroupQ4_K {
  static constexpr size_t kBytes = sizeof(TileQ4_K) / 8;  // a group of a tile
  const TileQ4_K& tile;
  const TileQ4_K::Group& group;
  GroupQ4_K(const uint8_t* tiles, int64_t g)
      : tile(reinterpret_cast<const TileQ4_K*>(tiles)[g / 8]), group(tile.groups[g % 8]) {}
  template <int J>
  PF_INLINE Bytes quad() const {
    return nibbles<J>(group.q);
  }
  PF_INLINE F16x scale() const { return mul(load_half(tile.d), load_u8(group.scale)); }
  PF_INLINE F16x min() const { return sub(zero(), mul(load_half(tile.dmin), load_u8(group.min))); }
};

struct PanelU4 {
  uint8_t q[8][kTile][4];
  float scales[kTile], mins[kTile];
};
struct GroupU4 {
  static constexpr size_t kBytes = 0;  // comes from the cache
  const PanelU4& panel;
  GroupU4(const uint8_t* panels, int64_t g) : panel(reinterpret_cast<const PanelU4*>(panels)[g]) {}
  template <int J>
  PF_INLINE Bytes quad() const {
    return load_bytes(panel.q[J]);
  }
  PF_INLINE F16x scale() const { return load(panel.scales); }
  PF_INLINE F16x min() const { return load(panel.mins); }
};

struct GroupQ6_K {
  static constexpr size_t kBytes = sizeof(TileQ6_K) / 8;  // a group of a tile
  const TileQ6_K& tile;
  const TileQ6_K::Group& group;
  GroupQ6_K(const uint8_t* tiles, int64_t g)
      : tile(reinterpret_cast<const TileQ6_K*>(tiles)[g / 8]), group(tile.groups[g % 8]) {}
  template <int J>
  PF_INLINE Bytes quad() const {
    return join(nibbles<J>(group.low), field<2, J / 2>(load_bytes(group.high[J % 2])));
  }
  template <int Half>
  PF_INLINE Shorts scale() const {
    return both<Half>(widen(group.scale[0]));
  }
  PF_INLINE Shorts offset() const { return times32(widen(group.scale[0])); }
  PF_INLINE F16x d() const { return load_half(tile.d); }
};

struct PanelU6 {
  uint8_t q[8][kTile][4];
  int16_t scales[2][kTile][2], offsets[kTile][2];
  float d[kTile];
};
struct GroupU6 {
  static constexpr size_t kBytes = 0;
  const PanelU6& panel;
  GroupU6(const uint8_t* panels, int64_t g) : panel(reinterpret_cast<const PanelU6*>(panels)[g]) {}
  template <int J>
  PF_INLINE Bytes quad() const {
    return load_bytes(panel.q[J]);
  }
  template <int Half>
  PF_INLINE Shorts scale() const {
    return load_shorts(panel.scales[Half][0]);
  }
  PF_INLINE Shorts offset() const { return load_shorts(panel.offsets[0]); }
  PF_INLINE F16x d() const { return load(panel.d); }
};

// Fetches into the second-level cache what the next tile has where this one has group g; it lies behind this one. With
// several rows a tile is computed for long enough to hide the memory. Not for a single row, which outruns it: there the
// hardware's own streams are 15 % faster alone.
template <class Group>
PF_INLINE void fetch_ahead(const uint8_t* tile, int64_t groups, int64_t g) {
  const uint8_t* next = tile + static_cast<size_t>(groups + g) * Group::kBytes;
  for (size_t at = 0; at < Group::kBytes; at += 64) __builtin_prefetch(next + at, 0, 2);
}

// --- unpacking
// -----------------------------------------------------------------------------------------------------------

template <class Group>
void unpack_u4(const uint8_t* tile, int64_t groups, uint8_t* panel) {
  for (int64_t g = 0; g < groups; ++g) {
    fetch_ahead<Group>(tile, groups, g);
    const Group from(tile, g);
    PanelU4& to = reinterpret_cast<PanelU4*>(panel)[g];
    unroll<8>([&](auto j) { store_bytes(to.q[decltype(j)::value], from.template quad<decltype(j)::value>()); });
    store(to.scales, from.scale());
    store(to.mins, from.min());
  }
}

void unpack_u6(const uint8_t* tile, int64_t groups, uint8_t* panel) {
  for (int64_t g = 0; g < groups; ++g) {
    fetch_ahead<GroupQ6_K>(tile, groups, g);
    const GroupQ6_K from(tile, g);
    PanelU6& to = reinterpret_cast<PanelU6*>(panel)[g];
    unroll<8>([&](auto j) { store_bytes(to.q[decltype(j)::value], from.quad<decltype(j)::value>()); });
    store_shorts(to.scales[0][0], from.scale<0>());
    store_shorts(to.scales[1][0], from.scale<1>());
    store_shorts(to.offsets[0], from.offset());
    store(to.d, from.d());
  }
}

// --- dot products of R rows with a tile
// ----------------------------------------------------------------------------------

template <class Group>
struct DotU4 {
  template <int R>
  static void run(const uint8_t* tile, int64_t groups, const ActivationGroup* a, float* out) {
    F16x acc[R];
    unroll<R>([&](auto r) { acc[decltype(r)::value] = zero(); });
    for (int64_t g = 0; g < groups; ++g, ++a) {
      if constexpr (R > 1) fetch_ahead<Group>(tile, groups, g);
      const Group group(tile, g);
      SumsU4 sums[R];
      unroll<8>([&](auto j) {
        constexpr int J = decltype(j)::value;
        const Bytes w = group.template quad<J>();
        unroll<R>([&](auto i) {
          constexpr int r = decltype(i)::value;
          const Bytes quad = repeat4(a[r * groups].a + 4 * J);
          sums[r] = J == 0 ? first_u4(w, quad) : next_u4(sums[r], w, quad);
        });
      });
      const F16x scale = group.scale(), min = group.min();
      unroll<R>([&](auto i) {
        constexpr int r = decltype(i)::value;
        const ActivationGroup& row = a[r * groups];
        acc[r] = fma(to_float(total(sums[r])), mul(scale, set1(row.scale)), acc[r]);
        acc[r] = fma(min, set1(row.scaled_sum), acc[r]);
      });
    }
    unroll<R>([&](auto r) { store(out + decltype(r)::value * kTile, acc[decltype(r)::value]); });
  }
};

#if PF_VNNI

template <class Group>
struct DotU6 {
  template <int R>
  static void run(const uint8_t* tile, int64_t groups, const ActivationGroup* a, float* out) {
    F16x acc[R];
    unroll<R>([&](auto r) { acc[decltype(r)::value] = zero(); });
    for (int64_t g = 0; g < groups; ++g, ++a) {
      if constexpr (R > 1) fetch_ahead<Group>(tile, groups, g);
      const Group group(tile, g);
      Ints sums[R][2];
      unroll<8>([&](auto j) {
        constexpr int J = decltype(j)::value;
        const Bytes w = group.template quad<J>();
        unroll<R>([&](auto i) {
          constexpr int r = decltype(i)::value;
          Ints& sum = sums[r][J / 4];
          sum = dot4(J % 4 == 0 ? no_ints() : sum, w, repeat4(a[r * groups].a + 4 * J));
        });
      });
      const Ints first = short_at<0>(group.template scale<0>()), second = short_at<0>(group.template scale<1>());
      const Shorts offset = group.offset();
      const F16x d = group.d();
      unroll<R>([&](auto i) {  // sum (q - 32) a = sum q a - 32 sum a
        constexpr int r = decltype(i)::value;
        const ActivationGroup& row = a[r * groups];
        const Ints dot =
            sub(add(mul(sums[r][0], first), mul(sums[r][1], second)), dot2(offset, repeat2(row.half_sums)));
        acc[r] = fma(to_float(dot), mul(d, set1(row.scale)), acc[r]);
      });
    }
    unroll<R>([&](auto r) { store(out + decltype(r)::value * kTile, acc[decltype(r)::value]); });
  }
};

struct DotQ8_0 {
  static constexpr size_t kBytes = sizeof(TileQ8_0);

  template <int R>
  static void run(const uint8_t* tile, int64_t groups, const ActivationGroup* a, float* out) {
    const auto* tiles = reinterpret_cast<const TileQ8_0*>(tile);
    const Shorts minus128 = repeat_short(-128);
    F16x acc[R];
    unroll<R>([&](auto r) { acc[decltype(r)::value] = zero(); });
    for (int64_t g = 0; g < groups; ++g, ++a) {
      if constexpr (R > 1) fetch_ahead<DotQ8_0>(tile, groups, g);
      Ints sums[R];
      unroll<R>([&](auto i) {
        constexpr int r = decltype(i)::value;
        sums[r] = dot2(minus128, repeat2(a[r * groups].half_sums));
      });
      unroll<8>([&](auto j) {
        constexpr int J = decltype(j)::value;
        const Bytes w = offset128(load_bytes(tiles[g].q[J]));
        unroll<R>([&](auto i) {
          constexpr int r = decltype(i)::value;
          sums[r] = dot4(sums[r], w, repeat4(a[r * groups].a + 4 * J));
        });
      });
      const F16x d = load_half(tiles[g].d);
      unroll<R>([&](auto i) {
        constexpr int r = decltype(i)::value;
        acc[r] = fma(to_float(sums[r]), mul(d, set1(a[r * groups].scale)), acc[r]);
      });
    }
    unroll<R>([&](auto r) { store(out + decltype(r)::value * kTile, acc[decltype(r)::value]); });
  }
};

#else  // no VNNI

template <class Group>
struct DotU6 {
  template <int R>
  static void run(const uint8_t* tile, int64_t groups, const ActivationGroup* a, float* out) {
    F16x acc[R];
    unroll<R>([&](auto r) { acc[decltype(r)::value] = zero(); });
    for (int64_t g = 0; g < groups; ++g, ++a) {
      if constexpr (R > 1) fetch_ahead<Group>(tile, groups, g);
      const Group group(tile, g);
      const Shorts offset = group.offset();
      Ints sums[R];
      unroll<R>([&](auto i) {  // sum (q - 32) a = sum q a - 32 sum a
        constexpr int r = decltype(i)::value;
        sums[r] = dot2(offset, repeat2(a[r * groups].half_sums));
      });
      unroll<4>([&](auto j) {
        constexpr int J = 2 * decltype(j)::value;
        const Bytes first = group.template quad<J>(), second = group.template quad<J + 1>();
        const Shorts scale = group.template scale<J / 4>();
        unroll<R>([&](auto i) {
          constexpr int r = decltype(i)::value;
          const int8_t* row = a[r * groups].a + 4 * J;
          const Shorts products = add(dot2(first, repeat4(row)), dot2(second, repeat4(row + 4)));
          sums[r] = sub(sums[r], dot2(products, scale));
        });
      });
      const F16x minus_d = sub(zero(), group.d());  // sums are negated
      unroll<R>([&](auto i) {
        constexpr int r = decltype(i)::value;
        acc[r] = fma(to_float(sums[r]), mul(minus_d, set1(a[r * groups].scale)), acc[r]);
      });
    }
    unroll<R>([&](auto r) { store(out + decltype(r)::value * kTile, acc[decltype(r)::value]); });
  }
};

struct DotQ8_0 {
  static constexpr size_t kBytes = sizeof(TileQ8_0);

  template <int R>
  static void run(const uint8_t* tile, int64_t groups, const ActivationGroup* a, float* out) {
    const auto* tiles = reinterpret_cast<const TileQ8_0*>(tile);
    F16x acc[R];
    unroll<R>([&](auto r) { acc[decltype(r)::value] = zero(); });
    for (int64_t g = 0; g < groups; ++g, ++a) {
      if constexpr (R > 1) fetch_ahead<DotQ8_0>(tile, groups, g);
      Ints sums[R];
      unroll<8>([&](auto j) {
        constexpr int J = decltype(j)::value;
        const Bytes w = load_bytes(tiles[g].q[J]);
        const Bytes magnitudes = abs(w);
        unroll<R>([&](auto i) {
          constexpr int r = decltype(i)::value;
          const Ints products = sum2(dot2(magnitudes, with_sign(repeat4(a[r * groups].a + 4 * J), w)));
          sums[r] = J == 0 ? products : add(sums[r], products);
        });
      });
      const F16x d = load_half(tiles[g].d);
      unroll<R>([&](auto i) {
        constexpr int r = decltype(i)::value;
        acc[r] = fma(to_float(sums[r]), mul(d, set1(a[r * groups].scale)), acc[r]);
      });
    }
    unroll<R>([&](auto r) { store(out + decltype(r)::value * kTile, acc[decltype(r)::value]); });
  }
};

#endif

template <class Dot, int MaxRows>
void sweep(const uint8_t* tile, int64_t groups, const ActivationGroup* a, int64_t rows, float* out) {
  while (rows > 0) {
    const int64_t block = next_block(rows, MaxRows);
    run_rows<Dot, MaxRows>(block, tile, groups, a, out);
    rows -= block, a += block * groups, out += block * kTile;
  }
}

template <class Group>
void run_u4(const uint8_t* tile, int64_t groups, const ActivationGroup* a, int64_t rows, uint8_t* panel, float* out) {
  if (rows < kUnpackFrom) return sweep<DotU4<Group>, kPackedRows>(tile, groups, a, rows, out);
  unpack_u4<Group>(tile, groups, panel);
  sweep<DotU4<GroupU4>, kPanelRows>(panel, groups, a, rows, out);
}

void run_u6(const uint8_t* tile, int64_t groups, const ActivationGroup* a, int64_t rows, uint8_t* panel, float* out) {
  if (rows < kUnpackFrom) return sweep<DotU6<GroupQ6_K>, kPackedRows>(tile, groups, a, rows, out);
  unpack_u6(tile, groups, panel);
  sweep<DotU6<GroupU6>, kPanelRows>(panel, groups, a, rows, out);
}

void run_q8_0(const uint8_t* tile, int64_t groups, const ActivationGroup* a, int64_t rows, uint8_t*, float* out) {
  sweep<DotQ8_0, kPackedRows>(tile, groups, a, rows, out);
}

}  // namespace

QuantizedKernel quantized_kernel(int32_t format) {
  switch (format) {
    case PF_FMT_Q4_0:
      return {run_u4<GroupQ4_0>, sizeof(PanelU4)};
    case PF_FMT_Q4_1:
      return {run_u4<GroupQ4_1>, sizeof(PanelU4)};
    case PF_FMT_Q4_K:
      return {run_u4<GroupQ4_K>, sizeof(PanelU4)};
    case PF_FMT_Q6_K:
      return {run_u6, sizeof(PanelU6)};
    default:
      return {run_q8_0, 0};
  }
}

}  // namespace pf::PF_ISA
