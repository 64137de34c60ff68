// shortlist_view_search: filters in, hits out.
#include <stdexcept>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "guard.hpp"
#include "names.hpp"

namespace shortlist::c_api {
namespace {

void check_splits(const std::int64_t* splits, std::size_t n_queries, std::size_t n_values,
                  const std::string& name) {
  bool is_valid = splits[0] == 0 && splits[n_queries] == static_cast<std::int64_t>(n_values);
  for (std::size_t q = 0; q < n_queries; ++q) is_valid = is_valid && splits[q] <= splits[q + 1];
  if (is_valid) return;
  throw std::invalid_argument(
      name + "_splits: got " + std::to_string(n_queries + 1) + " splits from " +
      std::to_string(splits[0]) + " to " + std::to_string(splits[n_queries]) +
      "; expected them to ascend from 0 to " + name + "->n, " + std::to_string(n_values));
}

// A filter of the core, and what it borrows.
class CheckedFilter {
 public:
  CheckedFilter(const IndexView& view, std::size_t n_queries, const shortlist_filter& given) {
    if (given.allow != nullptr && given.allow_mask != nullptr) {
      throw std::invalid_argument(
          "filter: got allow and allow_mask; expected at most one of them; set the other to NULL");
    }
    if (given.exclude != nullptr) set_exclude(view, n_queries, given);
    if (given.allow != nullptr) set_allow(view, n_queries, given);
    if (given.allow_mask != nullptr) set_mask(view.n_rows(), n_queries, given);
  }
  CheckedFilter(const CheckedFilter&) = delete;
  CheckedFilter& operator=(const CheckedFilter&) = delete;

  const Filter& filter() const { return filter_; }

 private:
  void set_exclude(const IndexView& view, std::size_t n_queries, const shortlist_filter& given) {
    check_pointer(given.exclude_splits, "filter.exclude_splits",
                  "n_queries + 1 splits; for one query {0, exclude->n}");
    exclude_ = Rows(view, *given.exclude, "filter.exclude");
    check_splits(given.exclude_splits, n_queries, exclude_.size(), "filter.exclude");
    filter_.exclude = {exclude_.data(), given.exclude_splits};
  }

  void set_allow(const IndexView& view, std::size_t n_queries, const shortlist_filter& given) {
    allow_ = Rows(view, *given.allow, "filter.allow");
    if (given.allow_splits != nullptr) {
      check_splits(given.allow_splits, n_queries, allow_.size(), "filter.allow");
      filter_.allow = {allow_.data(), given.allow_splits};
    } else {
      filter_.allow_rows = allow_.data();
      filter_.n_allow_rows = allow_.size();
    }
  }

  // The core takes one mask for all queries; masks of their own become lists.
  void set_mask(std::size_t n_rows, std::size_t n_queries, const shortlist_filter& given) {
    if (given.mask_size == n_rows) {
      filter_.allow_mask = given.allow_mask;
      return;
    }
    if (n_rows == 0 || given.mask_size % n_rows != 0 || given.mask_size / n_rows != n_queries) {
      throw std::invalid_argument(
          "filter.mask_size: got " + std::to_string(given.mask_size) +
          "; expected n_rows = " + std::to_string(n_rows) +
          ", for all queries, or n_queries * n_rows with n_queries = " + std::to_string(n_queries));
    }
    mask_splits_.push_back(0);
    for (std::size_t q = 0; q < n_queries; ++q) {
      const std::uint8_t* mask = given.allow_mask + q * n_rows;
      for (std::size_t row = 0; row < n_rows; ++row) {
        if (mask[row] != 0) mask_rows_.push_back(static_cast<std::int64_t>(row));
      }
      mask_splits_.push_back(static_cast<std::int64_t>(mask_rows_.size()));
    }
    filter_.allow = {mask_rows_.data(), mask_splits_.data()};
  }

  Filter filter_;
  Rows exclude_;
  Rows allow_;
  std::vector<std::int64_t> mask_rows_;
  std::vector<std::int64_t> mask_splits_;
};

// The caller's array, or one of our own where the caller wants none.
template <class T>
T* or_own(T* given, std::vector<T>& own, std::size_t size) {
  if (given != nullptr) return given;
  own.resize(size);
  return own.data();
}

void search(const IndexView& view, const MatrixView& queries, std::size_t top_n,
            const shortlist_filter* given, std::size_t n_threads, const shortlist_hits& hits) {
  check_places(queries.n_rows, top_n, view.n_rows());
  check_wanted_ids(view, hits.numbers, hits.texts);
  shortlist_filter filter{};
  if (given != nullptr) filter = known_fields(given, "filter");
  const CheckedFilter checked(view, queries.n_rows, filter);
  const std::size_t n_places = queries.n_rows * top_n;
  std::vector<float> scores;
  std::vector<std::int64_t> rows, counts;
  const SearchOutput output{or_own(hits.scores, scores, n_places),
                            or_own(hits.rows, rows, n_places),
                            or_own(hits.counts, counts, queries.n_rows)};
  view.search(queries, top_n, checked.filter(), n_threads, output);
  write_ids(view, output.rows, n_places, hits.numbers, hits.texts);
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist::c_api;

shortlist_status shortlist_view_search(const shortlist_view* view, const float* queries,
                                       size_t n_queries, size_t dim, size_t top_n,
                                       const shortlist_filter* filter, size_t n_threads,
                                       const shortlist_hits* hits, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(view, "view", kViewHandle);
    check_pointer(hits, "hits", "the address of a shortlist_hits");
    search(view->view, matrix_of(queries, n_queries, dim, "queries"), top_n, filter, n_threads,
           known_fields(hits, "hits"));
  });
}
