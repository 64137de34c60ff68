// From queries to lists that are varied as a whole, on one snapshot (internal).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "shortlist/filter.hpp"
#include "shortlist/matrix_view.hpp"
#include "shortlist/search_output.hpp"
#include "shortlist/variety.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

// @pre as for search_snapshot; the variety's columns and quotas have a value for every row, and
// each diversity is 0 .. 1.
void search_varied(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
                   const Filter& filter, const Variety& variety, std::size_t n_threads,
                   const SearchOutput& output, const std::function<void()>* between);

// What the allow form of a filter leaves to one of its queries: a byte a row.
std::vector<unsigned char> allow_mask_of(const Filter& filter, std::size_t query,
                                         std::size_t n_rows);

}  // namespace shortlist
