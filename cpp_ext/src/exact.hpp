// The exact score of a row, and the query form it needs (internal).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/kernels.hpp"
#include "snapshot.hpp"

namespace shortlist {

// A query in float64, zero-padded to whole lanes; for cosine normalised like the items.
class ExactQuery {
 public:
  void assign(const Snapshot& snapshot, const float* query);
  const double* data() const { return padded_.data(); }

 private:
  std::vector<double> padded_;
  std::vector<float> normalized_;
};

// float64 sum of a kernel -> the score a caller sees: rounded once, beyond the float32 range
// clamped (so that no score is infinite), never -0.
inline float to_score(Metric metric, double sum) {
  constexpr double kMax = static_cast<double>(std::numeric_limits<float>::max());
  double value = metric == Metric::euclidean ? -std::sqrt(sum) : sum;
  if (value > kMax) value = kMax;
  if (value < -kMax) value = -kMax;
  return static_cast<float>(value) + 0.0F;
}

// sums[i] = kernel sum of row indices[i], or of row first + i when indices is null.
inline void exact_sums(const kernels::Table& table, const Snapshot& snapshot,
                       const ExactQuery& query, const std::int64_t* indices, std::size_t first,
                       std::size_t n_rows, double* sums) {
  const auto kernel = snapshot.metric == Metric::euclidean ? table.distance_rows : table.dot_rows;
  kernel(query.data(), snapshot.rows + first * snapshot.dim, snapshot.dim, indices, n_rows, sums);
}

}  // namespace shortlist
