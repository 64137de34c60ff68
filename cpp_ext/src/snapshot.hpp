// What one search reads: immutable once published, shared by every search that started on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "packed.hpp"
#include "shortlist/index.hpp"

namespace shortlist {

// Items that were packed together. `places` maps a place here to the item's row in the index
// (ascending); empty means they are the same.
struct Segment {
  MatrixView vectors;                   // (n_places, dim); cosine: normalised
  std::vector<float> owned_vectors;     // empty when `vectors` points into a mapped file
  std::shared_ptr<const void> mapping;  // keeps the mapped file alive
  PackedItems packed;
  std::vector<std::int64_t> rows;

  std::int64_t row_at(std::size_t place) const {
    return rows.empty() ? static_cast<std::int64_t>(place) : rows[place];
  }
  // The place of a row, or -1 when it is not here.
  std::int64_t place_of(std::int64_t row) const {
    if (rows.empty()) return row < static_cast<std::int64_t>(vectors.n_rows) ? row : -1;
    const auto found = std::lower_bound(rows.begin(), rows.end(), row);
    return found != rows.end() && *found == row ? found - rows.begin() : -1;
  }
};

// A segment as one snapshot sees it: some of its places may have been replaced or removed since.
struct SegmentView {
  std::shared_ptr<const Segment> segment;
  std::shared_ptr<const std::vector<bool>> dead;  // by place; null = all alive

  bool is_alive(std::size_t place) const { return dead == nullptr || !(*dead)[place]; }
};

struct Snapshot {
  Metric metric = Metric::cosine;
  std::size_t dim = 0;
  std::size_t n_items = 0;  // rows 0 .. n_items - 1
  std::vector<SegmentView> segments;
  ItemIds ids;

  const float* vector(std::size_t row) const;
};

// Sum of squares in float64 in one fixed order.
double squared_norm(const float* row, std::size_t dim);
// Normalises one row: float64 norm, one rounding per element; a zero row stays zero.
void normalize_row(const float* row, std::size_t dim, float* out);
// Index of the first row with a NaN or an infinity, or n_rows.
std::size_t first_bad_row(const MatrixView& rows);

}  // namespace shortlist
