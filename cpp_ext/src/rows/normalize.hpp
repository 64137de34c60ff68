// Rows of length 1, for cosine (internal).
#pragma once

#include <cstddef>

namespace shortlist {

// Sum of squares in float64 in one fixed order.
double squared_norm(const float* row, std::size_t dim);
// Normalises one row: float64 norm, one rounding per element; a zero row stays zero.
void normalize_row(const float* row, std::size_t dim, float* out);

}  // namespace shortlist
