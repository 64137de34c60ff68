#include "c_api/checked_filter.hpp"

#include <stdexcept>
#include <string>

namespace shortlist::c_api {

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

CheckedFilter::CheckedFilter(const IndexView& view, std::size_t n_queries,
                             const shortlist_filter& given) {
  if (given.allow != nullptr && given.allow_mask != nullptr) {
    throw std::invalid_argument(
        "filter: got allow and allow_mask; expected at most one of them; set the other to NULL");
  }
  if (given.exclude != nullptr) set_exclude(view, n_queries, given);
  if (given.allow != nullptr) set_allow(view, n_queries, given);
  if (given.allow_mask != nullptr) set_mask(view.n_rows(), n_queries, given);
}

void CheckedFilter::set_exclude(const IndexView& view, std::size_t n_queries,
                                const shortlist_filter& given) {
  check_pointer(given.exclude_splits, "filter.exclude_splits",
                "n_queries + 1 splits; for one query {0, exclude->n}");
  exclude_ = Rows(view, *given.exclude, "filter.exclude");
  check_splits(given.exclude_splits, n_queries, exclude_.size(), "filter.exclude");
  filter_.exclude = {exclude_.data(), given.exclude_splits};
}

void CheckedFilter::set_allow(const IndexView& view, std::size_t n_queries,
                              const shortlist_filter& given) {
  allow_ = Rows(view, *given.allow, "filter.allow");
  if (given.allow_splits != nullptr) {
    check_splits(given.allow_splits, n_queries, allow_.size(), "filter.allow");
    filter_.allow = {allow_.data(), given.allow_splits};
  } else {
    filter_.allow_rows = allow_.data();
    filter_.n_allow_rows = allow_.size();
  }
}

void CheckedFilter::set_mask(std::size_t n_rows, std::size_t n_queries,
                             const shortlist_filter& given) {
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
  for (std::size_t q = 0; q < n_queries; ++q) {
    masks_.push_back(given.allow_mask + q * n_rows);
    mask_of_.push_back(static_cast<std::int64_t>(q));
  }
  filter_.allow_masks = masks_.data();
  filter_.n_allow_masks = n_queries;
  filter_.mask_of = mask_of_.data();
}

}  // namespace shortlist::c_api
