#include "c_api/checked_variety.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "c_api/arguments.hpp"
#include "c_api/checked_filter.hpp"

namespace shortlist::c_api {
namespace {

void check_counts(const std::int32_t* counts, std::size_t n, std::size_t most, const char* name) {
  if (n > 0) check_pointer(counts, name, "a number for each query and each of them");
  for (std::size_t i = 0; i < n; ++i) {
    if (counts[i] >= 0 && static_cast<std::size_t>(counts[i]) <= most) continue;
    const std::string range = most < std::numeric_limits<std::int32_t>::max()
                                  ? "0 to top_n, " + std::to_string(most)
                                  : "0, for any number, or more";
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(counts[i]) +
                                " at position " + std::to_string(i) + "; expected " + range);
  }
}

void check_diversity(const double* diversity, std::size_t n_queries) {
  for (std::size_t q = 0; diversity != nullptr && q < n_queries; ++q) {
    if (diversity[q] >= 0 && diversity[q] <= 1) continue;
    throw std::invalid_argument("variety.diversity: got " + std::to_string(diversity[q]) +
                                " for query " + std::to_string(q) +
                                "; expected a number from 0 to 1");
  }
}

GroupColumn column_of(const shortlist_groups& given, std::size_t n_rows, std::size_t number) {
  const std::string name = "variety.columns[" + std::to_string(number) + "]";
  if (given.n > 0) check_pointer(given.values, (name + ".values").c_str(), "n values");
  if (given.splits != nullptr) {
    check_splits(given.splits, n_rows, given.n, name);
  } else if (given.n != n_rows) {
    throw std::invalid_argument(name + ".n: got " + std::to_string(given.n) +
                                "; expected a value for each of " + std::to_string(n_rows) +
                                " rows, or splits");
  }
  return {given.values, given.splits};
}

}  // namespace

CheckedVariety::CheckedVariety(const IndexView& view, std::size_t n_queries, std::size_t top_n,
                               const shortlist_variety* given) {
  if (given == nullptr) return;
  const shortlist_variety known = known_fields(given, "variety");
  if (known.n_rows != view.n_rows()) {
    throw std::invalid_argument("variety.n_rows: got " + std::to_string(known.n_rows) +
                                "; expected the rows of the view, " +
                                std::to_string(view.n_rows()) + "; make columns and quotas anew");
  }
  if (known.n_columns > 0) check_pointer(known.columns, "variety.columns", "n_columns columns");
  if (known.n_quotas > 0) check_pointer(known.quotas, "variety.quotas", "n_quotas masks");
  constexpr std::size_t kAny = std::numeric_limits<std::int32_t>::max();
  check_counts(known.at_most, n_queries * known.n_columns, kAny, "variety.at_most");
  check_counts(known.at_least, n_queries * known.n_quotas, std::min(top_n, kAny),
               "variety.at_least");
  check_diversity(known.diversity, n_queries);
  for (std::size_t i = 0; i < known.n_columns; ++i) {
    columns_.push_back(column_of(known.columns[i], known.n_rows, i));
  }
  for (std::size_t i = 0; i < known.n_quotas; ++i) {
    check_pointer(known.quotas[i], "variety.quotas", "masks of n_rows bytes");
  }
  variety_ = {columns_.data(), known.n_columns, known.at_most,  known.quotas,
              known.n_quotas,  known.at_least,  known.diversity};
}

shortlist_filter known_filter(const shortlist_filter* filter) {
  constexpr std::size_t kFirst = offsetof(shortlist_filter, variety);  // of ABI version 4
  return known_fields(filter, "filter", kFirst);
}

}  // namespace shortlist::c_api
