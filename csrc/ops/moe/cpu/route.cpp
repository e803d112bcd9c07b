#include "route.h"

#include <cmath>

#include "../../../runtime/errors.h"

namespace pf {

void route(const float* logits, int64_t experts, int64_t top_k, bool renormalize, int32_t* ids, float* weights) {
  float largest = -INFINITY, sum = 0.0f;
  for (int64_t e = 0; e < experts; ++e) largest = std::fmax(largest, logits[e]);
  for (int64_t e = 0; e < experts; ++e) sum += std::exp(logits[e] - largest);
  const auto key = [&](int64_t e) { return std::isnan(logits[e]) ? INFINITY : logits[e]; };
  // Larger keys first, then lower ids: each choice takes the best of what comes after the last one.
  const auto before = [&](int64_t a, int64_t b) { return key(a) > key(b) || (key(a) == key(b) && a < b); };
  float total = 0.0f;
  for (int64_t j = 0; j < top_k; ++j) {
    int64_t best = -1;
    for (int64_t e = 0; e < experts; ++e) {
      if (j > 0 && !before(ids[j - 1], e)) continue;
      if (best < 0 || before(e, best)) best = e;
    }
    ids[j] = static_cast<int32_t>(best);
    weights[j] = std::exp(logits[best] - largest) / sum;
    total += weights[j];
  }
  for (int64_t j = 0; renormalize && j < top_k; ++j) weights[j] /= total;
}

void throw_misplaced_expert(int64_t first_row, int64_t rows) {
  refuse("the matrix of an expert, rows ", first_row, " to ", first_row + rows,
         " of a weight, does not begin at a tile of its part, or reaches past the part");
}

}  // namespace pf
