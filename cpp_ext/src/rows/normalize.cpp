#include "src/rows/normalize.hpp"

#include <cmath>

namespace shortlist {

// Four partial sums: the same bits everywhere, and no long dependency chain.
double squared_norm(const float* row, std::size_t dim) {
  double sum[4] = {0, 0, 0, 0};
  std::size_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    for (std::size_t k = 0; k < 4; ++k) {
      const double x = static_cast<double>(row[d + k]);
      sum[k] += x * x;
    }
  }
  for (; d < dim; ++d) sum[0] += static_cast<double>(row[d]) * static_cast<double>(row[d]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

void normalize_row(const float* row, std::size_t dim, float* out) {
  const double norm = std::sqrt(squared_norm(row, dim));
  const double scale = norm > 0 ? 1.0 / norm : 0.0;
  for (std::size_t d = 0; d < dim; ++d) {
    out[d] = static_cast<float>(static_cast<double>(row[d]) * scale);
  }
}

}  // namespace shortlist
