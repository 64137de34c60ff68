#include "snapshot.hpp"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace shortlist {
namespace {

bool is_finite(const float* row, std::size_t dim) {
  std::uint32_t is_bad = 0;  // all exponent bits set = NaN or infinity
  for (std::size_t d = 0; d < dim; ++d) {
    std::uint32_t bits;
    std::memcpy(&bits, row + d, sizeof bits);
    is_bad |= static_cast<std::uint32_t>((bits & 0x7F800000U) == 0x7F800000U);
  }
  return is_bad == 0;
}

}  // namespace

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

std::size_t first_bad_row(const MatrixView& rows) {
  for (std::size_t row = 0; row < rows.n_rows; ++row) {
    if (!is_finite(rows.row(row), rows.dim)) return row;
  }
  return rows.n_rows;
}

const float* Snapshot::vector(std::size_t row) const {
  for (auto view = segments.rbegin(); view != segments.rend(); ++view) {
    const std::int64_t place = view->segment->place_of(static_cast<std::int64_t>(row));
    if (place >= 0 && view->is_alive(static_cast<std::size_t>(place))) {
      return view->segment->vectors.row(static_cast<std::size_t>(place));
    }
  }
  return nullptr;
}

}  // namespace shortlist
