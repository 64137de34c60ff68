// Skipped items push the user embedding away from what is like them.
#pragma once

#include <vector>

#include "shortlist/filter.hpp"
#include "shortlist/index.hpp"

namespace shortlist::ort_op {

// Queries (n_rows, dim) moved away from the mean direction of their skipped items' vectors: u
// becomes u - 0.1 |u| m, with m the mean of the skipped items' unit vectors. Of one skipped item no
// other item's cosine falls by more, so that it never rises. Sums in float64. The factor is
// measured in docs/feedback.md. @pre rows of `skipped` are rows of the index, or negative and
// ignored
std::vector<float> push_down(const MatrixView& queries, const RaggedRows& skipped,
                             const IndexView& index);

}  // namespace shortlist::ort_op
