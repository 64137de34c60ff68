#include <cstring>
#include <string>
#include <utility>

#include "snapshot.hpp"

namespace shortlist {

IndexBuilder::IndexBuilder(std::size_t n_items, std::size_t dim, Metric metric)
    : segment_(std::make_shared<Segment>()), metric_(metric) {
  constexpr std::size_t kMaxItems = (std::size_t{1} << 31) - 2;
  if (dim == 0) throw std::invalid_argument("vectors: got dim 0; expected at least 1 column");
  if (n_items > kMaxItems) {
    throw std::invalid_argument("vectors: got " + std::to_string(n_items) +
                                " rows; expected at most " + std::to_string(kMaxItems) +
                                "; split the catalogue over several indexes");
  }
  segment_->owned_vectors.resize(n_items * dim);
  segment_->vectors = {segment_->owned_vectors.data(), n_items, dim};
}

IndexBuilder::~IndexBuilder() = default;

void IndexBuilder::add(const MatrixView& rows) {
  const MatrixView& all = segment_->vectors;
  if (rows.dim != all.dim || rows.n_rows > all.n_rows - n_added_) {
    throw std::invalid_argument("vectors: chunk does not fit the shape of this builder");
  }
  const std::size_t bad = first_bad_row(rows);
  if (bad < rows.n_rows) {
    throw std::invalid_argument("vectors: row " + std::to_string(n_added_ + bad) +
                                " holds a NaN or an infinity; expected finite numbers; drop or "
                                "repair that row");
  }
  float* target = segment_->owned_vectors.data() + n_added_ * rows.dim;
  if (metric_ == Metric::cosine) {
    for (std::size_t row = 0; row < rows.n_rows; ++row) {
      normalize_row(rows.row(row), rows.dim, target + row * rows.dim);
    }
  } else if (rows.n_rows > 0) {
    std::memcpy(target, rows.data, rows.n_rows * rows.dim * sizeof(float));
  }
  n_added_ += rows.n_rows;
}

Index IndexBuilder::finish(ItemIds ids) {
  const std::size_t n_items = segment_->vectors.n_rows;
  if (n_added_ != n_items || ids.size() != n_items) {
    throw std::invalid_argument("item_ids: got " + std::to_string(ids.size()) + " ids for " +
                                std::to_string(n_added_) + " rows; expected one id per row");
  }
  segment_->packed = pack_items(segment_->vectors, metric_);
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->metric = metric_;
  snapshot->dim = segment_->vectors.dim;
  snapshot->n_rows = snapshot->n_items = n_items;
  SegmentView base;
  base.segment = std::move(segment_);
  base.n_places = n_items;
  snapshot->segments.push_back(std::move(base));
  snapshot->ids = std::make_shared<ItemIds>(std::move(ids));
  return Index(std::move(snapshot));
}

}  // namespace shortlist
