// From queries to sorted rows on one snapshot (internal).
#pragma once

#include <cstddef>
#include <functional>

#include "shortlist/filter.hpp"
#include "shortlist/matrix_view.hpp"
#include "shortlist/search_output.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

// @pre queries are finite and have the snapshot's dim; output as described at IndexView::search.
void search_snapshot(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
                     const Filter& filter, std::size_t n_threads, const SearchOutput& output,
                     const std::function<void()>* between = nullptr);

}  // namespace shortlist
