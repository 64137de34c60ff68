#include "search.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "exact.hpp"
#include "shortlist/neighbor.hpp"
#include "simd.hpp"

namespace shortlist {

void ExactQuery::assign(const Snapshot& snapshot, const float* query) {
  const std::size_t dim = snapshot.dim;
  if (snapshot.metric == Metric::cosine) {
    normalized_.resize(dim);
    normalize_row(query, dim, normalized_.data());
    query = normalized_.data();
  }
  padded_.assign((dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes, 0.0);
  for (std::size_t d = 0; d < dim; ++d) padded_[d] = static_cast<double>(query[d]);
}

namespace {

std::vector<std::int64_t> sorted_rows(const std::int64_t* begin, const std::int64_t* end,
                                      std::size_t n_items, const char* name) {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(end - begin));
  for (const std::int64_t* row = begin; row != end; ++row) {
    if (*row >= static_cast<std::int64_t>(n_items)) {
      throw std::invalid_argument(std::string(name) + ": got row " + std::to_string(*row) +
                                  "; the index has " + std::to_string(n_items) + " rows");
    }
    if (*row >= 0) rows.push_back(*row);
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

void write_hits(std::vector<Neighbor> hits, std::size_t query, std::size_t top_n,
                const SearchOutput& output) {
  for (std::size_t place = 0; place < top_n; ++place) {
    const bool is_real = place < hits.size();
    output.scores[query * top_n + place] =
        is_real ? hits[place].score : -std::numeric_limits<float>::infinity();
    output.rows[query * top_n + place] = is_real ? hits[place].row : -1;
  }
  output.counts[query] = static_cast<std::int64_t>(hits.size());
}

}  // namespace

void search_snapshot(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
                     const Filter& filter, std::size_t n_threads, const SearchOutput& output) {
  (void)n_threads;
  constexpr std::size_t kChunk = 256;
  double sums[kChunk];
  ExactQuery query;
  const kernels::Table& table = active_kernels();
  for (std::size_t q = 0; q < queries.n_rows; ++q) {
    query.assign(snapshot, queries.row(q));
    std::vector<std::int64_t> excluded;
    if (filter.exclude.splits != nullptr) {
      excluded = sorted_rows(filter.exclude.values + filter.exclude.splits[q],
                             filter.exclude.values + filter.exclude.splits[q + 1], snapshot.n_items,
                             "exclude");
    }
    std::vector<std::int64_t> allowed;
    const bool has_list = filter.allow.splits != nullptr || filter.allow_rows != nullptr;
    if (filter.allow.splits != nullptr) {
      allowed =
          sorted_rows(filter.allow.values + filter.allow.splits[q],
                      filter.allow.values + filter.allow.splits[q + 1], snapshot.n_items, "allow");
    } else if (filter.allow_rows != nullptr) {
      allowed = sorted_rows(filter.allow_rows, filter.allow_rows + filter.n_allow_rows,
                            snapshot.n_items, "allow");
    }
    const std::size_t n_rows = has_list ? allowed.size() : snapshot.n_items;
    TopN best(std::max<std::size_t>(1, std::min(top_n, n_rows)));
    for (std::size_t first = 0; first < n_rows; first += kChunk) {
      const std::size_t n = std::min(kChunk, n_rows - first);
      exact_sums(table, snapshot, query, has_list ? allowed.data() + first : nullptr,
                 has_list ? 0 : first, n, sums);
      for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t row =
            has_list ? allowed[first + i] : static_cast<std::int64_t>(first + i);
        if (filter.allow_mask != nullptr && filter.allow_mask[row] == 0) continue;
        if (std::binary_search(excluded.begin(), excluded.end(), row)) continue;
        best.push({to_score(snapshot.metric, sums[i]), row});
      }
    }
    write_hits(best.take_sorted(), q, top_n, output);
  }
}

}  // namespace shortlist
