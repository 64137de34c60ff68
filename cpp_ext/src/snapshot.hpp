// What one search reads: immutable once published, shared by every search that started on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "shortlist/index.hpp"

namespace shortlist {

struct Snapshot {
  Metric metric = Metric::cosine;
  std::size_t n_items = 0;
  std::size_t dim = 0;
  const float* rows = nullptr;          // (n_items, dim) row-major; cosine: normalised
  std::vector<float> owned_rows;        // empty when `rows` points into a mapped file
  std::shared_ptr<const void> mapping;  // keeps the mapped file alive
  ItemIds ids;
};

// Normalises one row: float64 norm, one rounding per element; a zero row stays zero.
void normalize_row(const float* row, std::size_t dim, float* out);
// Index of the first row with a NaN or an infinity, or n_rows.
std::size_t first_bad_row(const MatrixView& rows);

}  // namespace shortlist
