#include "snapshot.hpp"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace shortlist {
namespace {

// Four partial sums in a fixed order: the same bits everywhere, and no long dependency chain.
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

IndexBuilder::IndexBuilder(std::size_t n_items, std::size_t dim, Metric metric)
    : snapshot_(std::make_shared<Snapshot>()) {
  constexpr std::size_t kMaxItems = (std::size_t{1} << 31) - 2;
  if (dim == 0) throw std::invalid_argument("vectors: got dim 0; expected at least 1 column");
  if (n_items > kMaxItems) {
    throw std::invalid_argument("vectors: got " + std::to_string(n_items) +
                                " rows; expected at most " + std::to_string(kMaxItems) +
                                "; split the catalogue over several indexes");
  }
  snapshot_->metric = metric;
  snapshot_->n_items = n_items;
  snapshot_->dim = dim;
  snapshot_->owned_rows.resize(n_items * dim);
  snapshot_->rows = snapshot_->owned_rows.data();
}

IndexBuilder::~IndexBuilder() = default;

void IndexBuilder::add(const MatrixView& rows) {
  if (rows.dim != snapshot_->dim || rows.n_rows > snapshot_->n_items - n_added_) {
    throw std::invalid_argument("rows: wrong shape for this builder");
  }
  const std::size_t bad = first_bad_row(rows);
  if (bad < rows.n_rows) {
    throw std::invalid_argument("vectors: row " + std::to_string(n_added_ + bad) +
                                " holds a NaN or an infinity; expected finite numbers; drop or "
                                "repair that row");
  }
  float* target = snapshot_->owned_rows.data() + n_added_ * rows.dim;
  if (snapshot_->metric == Metric::cosine) {
    for (std::size_t row = 0; row < rows.n_rows; ++row) {
      normalize_row(rows.row(row), rows.dim, target + row * rows.dim);
    }
  } else if (rows.n_rows > 0) {
    std::memcpy(target, rows.data, rows.n_rows * rows.dim * sizeof(float));
  }
  n_added_ += rows.n_rows;
}

Index IndexBuilder::finish(ItemIds ids) {
  if (n_added_ != snapshot_->n_items || ids.size() != n_added_) {
    throw std::invalid_argument("item_ids: got " + std::to_string(ids.size()) + " ids for " +
                                std::to_string(n_added_) + " rows; expected one id per row");
  }
  snapshot_->ids = std::move(ids);
  return Index(std::move(snapshot_));
}

}  // namespace shortlist
