// The exact score of an item, and the query form it needs (internal).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "shortlist/metric.hpp"
#include "src/kernels/kernels.hpp"
#include "src/rows/stored_rows.hpp"

namespace shortlist {

// float64 sum of a kernel -> the score a caller sees: rounded once, beyond the float32 range
// clamped (so that no score is infinite), never -0.
inline float to_score(Metric metric, double sum) {
  constexpr double kMax = static_cast<double>(std::numeric_limits<float>::max());
  double value = metric == Metric::euclidean ? -std::sqrt(sum) : sum;
  if (value > kMax) value = kMax;
  if (value < -kMax) value = -kMax;
  return static_cast<float>(value) + 0.0F;
}

// sums[i] = kernel sum of slot slots[i], or of slot first + i when slots is null. The query is
// float64, padded to whole lanes. Rows of every storage are widened exactly before they are scored.
void exact_sums(const kernels::Table& table, Metric metric, const StoredRows& vectors,
                const double* query, const std::int64_t* slots, std::size_t first, std::size_t n,
                double* sums);

}  // namespace shortlist
