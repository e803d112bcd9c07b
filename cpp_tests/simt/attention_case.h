// What the tests of the attention kernels share: sequences in a paged cache, and the formula in double.
#pragma once
#include "harness.h"
#include "ops/attention/gpu/cache.h"

namespace pf {

struct Sequence {
  int context, queries;  // the last `queries` positions of the context are asked for
};

enum class Sees {
  kPast,    // up to its own position
  kAll,     // the whole context
  kImages,  // the past, and all of its own twenty positions, as an image in a prompt may
};

struct Shape {
  int head_dim, kv_heads, group, window;
  float softcap;
  std::vector<Sequence> sequences;
  Sees sees = Sees::kPast;
};

constexpr int kBlockSize = 16;
constexpr float kScale = 0.11f, kKScale = 0.75f, kVScale = 1.5f;

// The whole context of all sequences in blocks of the cache, in no particular order, one block left out.
struct Paging {
  explicit Paging(const std::vector<Sequence>& sequences) {
    for (const Sequence& s : sequences) max_blocks = std::max(max_blocks, (s.context + kBlockSize - 1) / kBlockSize);
    num_blocks = 1 + max_blocks * static_cast<int>(sequences.size());
    std::vector<int> free(static_cast<size_t>(num_blocks));
    for (int i = 0; i < num_blocks; ++i) free[static_cast<size_t>(i)] = i;
    std::mt19937 generator(7);
    std::ranges::shuffle(free, generator);
    for (const Sequence& s : sequences) {
      query_start.push_back(query_start.back() + s.queries);
      seq_lens.push_back(s.context);
      for (int b = 0; b < max_blocks; ++b) {
        // What lies beyond a sequence's end must not be looked at.
        const bool used = b * kBlockSize < s.context;
        table.push_back(used ? free.back() : 0x7fffffff);
        if (used) free.pop_back();
      }
    }
  }
  size_t slot(size_t sequence, int position) const {
    const int block = table[sequence * static_cast<size_t>(max_blocks) + static_cast<size_t>(position / kBlockSize)];
    return static_cast<size_t>(block * kBlockSize + position % kBlockSize);
  }
  int max_blocks = 0, num_blocks = 0;
  std::vector<int32_t> query_start{0}, seq_lens, table;
};

// Queries, keys and values of a shape, and what their attention is.
template <class T, class C>
struct AttentionCase {
  explicit AttentionCase(const Shape& s) : shape(s), paging(s.sequences), heads(s.kv_heads * s.group) {
    tokens = paging.query_start.back();
    cols = static_cast<size_t>(heads * s.head_dim);
    q = converted<T>(normal_values(static_cast<size_t>(tokens) * cols, 1));
    const size_t cache_size = static_cast<size_t>(paging.num_blocks * kBlockSize * s.kv_heads * s.head_dim);
    // Slots that hold no token are NaN, as memory that was never written may be.
    std::vector<float> keys(cache_size, NAN), values(cache_size, NAN);
    const std::vector<float> drawn = normal_values(2 * cache_size, 2);
    size_t next = 0;
    for (size_t seq = 0; seq < s.sequences.size(); ++seq) {
      for (int p = 0; p < s.sequences[seq].context; ++p) {
        for (int h = 0; h < s.kv_heads; ++h) {
          const size_t at = index(seq, p, h);
          for (size_t c = 0; c < static_cast<size_t>(s.head_dim); ++c) {
            keys[at + c] = drawn[next++];
            values[at + c] = drawn[next++];
          }
        }
      }
    }
    k = cached(keys, k_scales);
    v = cached(values, v_scales);
    for (size_t seq = 0; seq < s.sequences.size(); ++seq) {
      for (int i = 0; i < s.sequences[seq].queries; ++i) ends.push_back(end_of(s.sequences[seq], i));
    }
    compute_wanted();
  }

  // The first channel in the cache.
  size_t index(size_t sequence, int position, int head) const {
    const gpu::KvLayer<C> layer = {nullptr, nullptr, kBlockSize, shape.kv_heads, shape.head_dim};
    return static_cast<size_t>(layer.offset(static_cast<int>(paging.slot(sequence, position)), head));
  }

  // Of the queries as they are now.
  void compute_wanted() {
    wanted.clear();
    const std::vector<float> fq = floats(q), fk = read(k, k_scales), fv = read(v, v_scales);
    const auto dim = static_cast<size_t>(shape.head_dim);
    for (size_t seq = 0; seq < shape.sequences.size(); ++seq) {
      const Sequence& s = shape.sequences[seq];
      for (int i = 0; i < s.queries; ++i) {
        const int end = end_of(s, i), position = s.context - s.queries + i;
        const int begin = shape.window > 0 ? std::max(0, position + 1 - shape.window) : 0;
        for (int h = 0; h < heads; ++h) {
          const float* query =
              fq.data() + static_cast<size_t>(paging.query_start[seq] + i) * cols + static_cast<size_t>(h) * dim;
          std::vector<double> sums(dim);
          double total = 0;
          for (int p = begin; p < end; ++p) {
            const size_t at = index(seq, p, h / shape.group);
            double score = 0;
            for (size_t c = 0; c < dim; ++c) score += double{query[c]} * fk[at + c];
            score *= double{kScale} * kKScale;
            if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
            const double weight = std::exp(score);
            total += weight;
            for (size_t c = 0; c < dim; ++c) sums[c] += weight * fv[at + c] * kVScale;
          }
          for (const double sum : sums) wanted.push_back(sum / total);
        }
      }
    }
  }

  Shape shape;
  Paging paging;
  int heads, tokens;
  size_t cols;  // of a token's queries
  std::vector<T> q;
  std::vector<C> k, v;
  std::vector<float> k_scales, v_scales;  // a token and head of int8_t; else empty
  std::vector<int32_t> ends;              // [tokens]
  std::vector<double> wanted;

 private:
  std::vector<C> cached(const std::vector<float>& values, std::vector<float>& scales) const {
    if constexpr (std::is_same_v<C, int8_t>) {
      const auto dim = static_cast<size_t>(shape.head_dim);
      std::vector<int8_t> rounded(values.size());
      for (size_t begin = 0; begin < values.size(); begin += dim) {
        float largest = 0.0f;
        for (size_t i = begin; i < begin + dim; ++i) largest = std::max(largest, std::abs(values[i]));
        scales.push_back(std::isnan(values[begin]) ? NAN : largest / 127.0f);
        for (size_t i = begin; i < begin + dim && !std::isnan(values[begin]); ++i) {
          rounded[i] = static_cast<int8_t>(std::nearbyint(values[i] / scales.back()));
        }
      }
      return rounded;
    } else {
      return converted<C>(values);
    }
  }
  std::vector<float> read(const std::vector<C>& values, const std::vector<float>& scales) const {
    std::vector<float> result = floats(values);
    if (scales.empty()) return result;
    for (size_t i = 0; i < result.size(); ++i) result[i] *= scales[i / static_cast<size_t>(shape.head_dim)];
    return result;
  }

  int end_of(const Sequence& s, int query) const {
    const int position = s.context - s.queries + query;
    if (shape.sees == Sees::kAll) return s.context;
    if (shape.sees == Sees::kImages) return std::min(s.context, position / 20 * 20 + 20);
    return position + 1;
  }
};

}  // namespace pf
