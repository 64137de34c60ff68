#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "shortlist/index.hpp"
#include "src/index/recall.hpp"
#include "src/rows/check_rows.hpp"
#include "src/rows/normalize.hpp"
#include "src/segments/packer.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {
namespace {

// Rows that are checked, normalised and packed together: few enough to stay in the cache.
constexpr std::size_t kRowsAtATime = 64;

}  // namespace

IndexBuilder::IndexBuilder(std::size_t n_items, std::size_t dim, Metric metric, Storage storage)
    : n_items_(n_items), dim_(dim), metric_(metric), storage_(storage) {
  constexpr std::size_t kMaxItems = (std::size_t{1} << 31) - 2;
  constexpr std::size_t kMaxDim = std::size_t{1} << 31;
  if (dim == 0) throw std::invalid_argument("vectors: got dim 0; expected at least 1 column");
  if (dim > kMaxDim) {
    throw std::invalid_argument("vectors: got dim " + std::to_string(dim) + "; expected at most " +
                                std::to_string(kMaxDim));
  }
  if (n_items > kMaxItems) {
    throw std::invalid_argument("vectors: got " + std::to_string(n_items) +
                                " rows; expected at most " + std::to_string(kMaxItems) +
                                "; split the catalogue over several indexes");
  }
  check_dim(dim, storage);
  packer_ = std::make_unique<Packer>(n_items, dim, metric, storage);
  if (metric == Metric::cosine) normalized_.resize(kRowsAtATime * dim);
}

IndexBuilder::~IndexBuilder() = default;

void IndexBuilder::sample(const MatrixView& queries, const std::int64_t* rows) {
  if (queries.dim != dim_) throw std::invalid_argument("queries: not the dim of this builder");
  sample_ = std::make_unique<RecallSample>(queries, rows, metric_);
}

void IndexBuilder::add(const MatrixView& rows) {
  if (rows.dim != dim_ || rows.n_rows > n_items_ - n_added_) {
    throw std::invalid_argument("vectors: chunk does not fit the shape of this builder");
  }
  for (std::size_t first = 0; first < rows.n_rows; first += kRowsAtATime) {
    MatrixView some = {rows.row(first), std::min(kRowsAtATime, rows.n_rows - first), dim_};
    const std::size_t bad = first_bad_row(some);
    if (bad < some.n_rows) throw_not_finite(n_added_ + bad);
    if (metric_ == Metric::cosine) {
      for (std::size_t i = 0; i < some.n_rows; ++i) {
        normalize_row(some.row(i), dim_, normalized_.data() + i * dim_);
      }
      some.data = normalized_.data();
    }
    for (std::size_t i = 0; i < some.n_rows; ++i) {
      if (!packer_->add(some.row(i))) throw_out_of_range(n_added_ + i, storage_);
    }
    if (sample_ != nullptr) sample_->add(some, n_added_);
    n_added_ += some.n_rows;
  }
}

Index IndexBuilder::finish(ItemIds ids) {
  if (n_added_ != n_items_ || ids.size() != n_items_) {
    throw std::invalid_argument("item_ids: got " + std::to_string(ids.size()) + " ids for " +
                                std::to_string(n_added_) + " rows; expected one id per row");
  }
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->metric = metric_;
  snapshot->storage = storage_;
  snapshot->dim = dim_;
  snapshot->n_rows = snapshot->n_items = n_items_;
  SegmentView base;
  base.segment = packer_->finish();
  base.n_slots = n_items_;
  snapshot->segments.push_back(std::move(base));
  snapshot->ids = std::make_shared<ItemIds>(std::move(ids));
  if (sample_ != nullptr) snapshot->recall = sample_->recall_of(*snapshot);
  return Index(std::move(snapshot));
}

}  // namespace shortlist
