#include "src/index/recall.hpp"

#include <algorithm>

#include "src/kernels/simd.hpp"
#include "src/rows/exact.hpp"
#include "src/rows/normalize.hpp"
#include "src/search/search.hpp"

namespace shortlist {
namespace {

constexpr std::size_t kTopN = 10;

std::size_t padded(std::size_t dim) {
  return (dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes;
}

}  // namespace

RecallSample::RecallSample(const MatrixView& queries, const std::int64_t* rows, Metric metric)
    : metric_(metric),
      dim_(queries.dim),
      table_(active_kernels()),
      rows_(rows, rows + queries.n_rows),
      queries_(queries.data, queries.data + queries.n_rows * queries.dim),
      exact_queries_(queries.n_rows * padded(queries.dim)),
      truth_(queries.n_rows, TopN(kTopN)) {
  std::vector<float> normalized(dim_);
  for (std::size_t q = 0; q < queries.n_rows; ++q) {
    const float* query = queries.row(q);
    if (metric == Metric::cosine) {
      normalize_row(query, dim_, normalized.data());
      query = normalized.data();
    }
    double* out = exact_queries_.data() + q * padded(dim_);
    for (std::size_t d = 0; d < dim_; ++d) out[d] = static_cast<double>(query[d]);
  }
}

void RecallSample::add(const MatrixView& rows, std::size_t first) {
  const StoredRows stored = {Storage::float32, rows.n_rows, dim_, rows.data};
  sums_.resize(std::max(sums_.size(), rows.n_rows));
  for (std::size_t q = 0; q < rows_.size(); ++q) {
    exact_sums(table_, metric_, stored, exact_queries_.data() + q * padded(dim_), nullptr, 0,
               rows.n_rows, sums_.data());
    TopN& best = truth_[q];
    for (std::size_t i = 0; i < rows.n_rows; ++i) {
      const float score = to_score(metric_, sums_[i]);
      const auto row = static_cast<std::int64_t>(first + i);
      if (score >= best.threshold() && row != rows_[q]) best.push({score, row});
    }
  }
}

double RecallSample::recall_of(const Snapshot& snapshot) const {
  const std::size_t n_queries = rows_.size();
  std::vector<std::int64_t> splits(n_queries + 1);
  for (std::size_t q = 0; q <= n_queries; ++q) splits[q] = static_cast<std::int64_t>(q);
  Filter filter;
  filter.exclude = {rows_.data(), splits.data()};
  std::vector<float> scores(n_queries * kTopN);
  std::vector<std::int64_t> found(n_queries * kTopN), counts(n_queries);
  search_snapshot(snapshot, {queries_.data(), n_queries, dim_}, kTopN, filter, 1,
                  {scores.data(), found.data(), counts.data()});
  std::size_t n_true = 0, n_found = 0;
  for (std::size_t q = 0; q < n_queries; ++q) {
    const auto begin = found.begin() + static_cast<std::ptrdiff_t>(q * kTopN);
    for (const Neighbor& neighbor : truth_[q].items()) {
      ++n_true;
      if (std::find(begin, begin + kTopN, neighbor.row) != begin + kTopN) ++n_found;
    }
  }
  return n_true == 0 ? kNoRecall : static_cast<double>(n_found) / static_cast<double>(n_true);
}

}  // namespace shortlist
