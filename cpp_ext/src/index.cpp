#include "shortlist/index.hpp"

#include <string>
#include <utility>

#include "search.hpp"
#include "snapshot.hpp"

namespace shortlist {

Index::Index(std::shared_ptr<const Snapshot> snapshot) : snapshot_(std::move(snapshot)) {}

Metric Index::metric() const {
  return snapshot_->metric;
}
std::size_t Index::dim() const {
  return snapshot_->dim;
}
std::size_t Index::n_items() const {
  return snapshot_->n_items;
}
const ItemIds& Index::item_ids() const {
  return snapshot_->ids;
}

const float* Index::vector(std::size_t row) const {
  return snapshot_->vector(row);
}

void Index::search(const MatrixView& queries, std::size_t top_n, const Filter& filter,
                   std::size_t n_threads, const SearchOutput& output) const {
  const std::shared_ptr<const Snapshot> snapshot = snapshot_;
  if (queries.dim != snapshot->dim) {
    throw std::invalid_argument("queries: got dim " + std::to_string(queries.dim) +
                                "; the index has dim " + std::to_string(snapshot->dim) +
                                "; encode queries with the model that made the items");
  }
  const std::size_t bad = first_bad_row(queries);
  if (bad < queries.n_rows) {
    throw std::invalid_argument("queries: row " + std::to_string(bad) +
                                " holds a NaN or an infinity; expected finite numbers");
  }
  search_snapshot(*snapshot, queries, top_n, filter, n_threads, output);
}

}  // namespace shortlist
