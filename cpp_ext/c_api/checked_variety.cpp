#include "c_api/checked_variety.hpp"

#include <algorithm>
#include <cmath>
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

GroupColumn column_of(const shortlist_groups& given, std::size_t n_rows, const std::string& name) {
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

void check_number(double number, double least, double most, const char* name, std::size_t at,
                  const char* range) {
  if (number >= least && number <= most) return;  // not NaN
  throw std::invalid_argument(std::string("variety.") + name + ": got " + std::to_string(number) +
                              " at position " + std::to_string(at) + "; expected " + range);
}

void check_one_rule(const shortlist_variety& known, double other, std::size_t q, const char* name) {
  if (known.diversity == nullptr || known.diversity[q] <= 0 || other <= 0) return;
  throw std::invalid_argument("variety.diversity, variety." + std::string(name) +
                              ": got both for query " + std::to_string(q) +
                              "; expected one of them: each is a rule by which the next item is "
                              "chosen");
}

// The shares of one query.
void check_shares(const shortlist_calibration& given, std::size_t q) {
  double sum = 0;
  const std::int64_t begin = given.splits[q], end = given.splits[q + 1];
  for (std::int64_t i = begin; i < end; ++i) {
    const bool ascends = i == begin ? given.values[i] >= 0 : given.values[i] > given.values[i - 1];
    if (!ascends) {
      throw std::invalid_argument("variety.calibration.values: got " +
                                  std::to_string(given.values[i]) + " at position " +
                                  std::to_string(i) + "; expected 0 or more, ascending");
    }
    check_number(given.shares[i], std::numeric_limits<double>::min(), 1, "calibration.shares",
                 static_cast<std::size_t>(i), "a number above 0 and up to 1");
    sum += given.shares[i];
  }
  if (begin == end || std::fabs(sum - 1) < 1e-6) return;
  throw std::invalid_argument("variety.calibration.shares: got a sum of " + std::to_string(sum) +
                              " for query " + std::to_string(q) + "; expected 1");
}

}  // namespace

void CheckedVariety::set_calibration(const shortlist_variety& known, std::size_t n_queries,
                                     bool has_histories) {
  const auto given = known_fields(known.calibration, "variety.calibration");
  const GroupColumn column = column_of(given.column, known.n_rows, "variety.calibration.column");
  check_pointer(given.strength, "variety.calibration.strength", "n_queries numbers");
  check_pointer(given.splits, "variety.calibration.splits", "n_queries + 1 splits");
  const auto n_shares =
      static_cast<std::size_t>(std::max<std::int64_t>(0, given.splits[n_queries]));
  check_splits(given.splits, n_queries, n_shares, "variety.calibration");
  if (n_shares > 0) check_pointer(given.values, "variety.calibration.values", "values");
  if (n_shares > 0) check_pointer(given.shares, "variety.calibration.shares", "shares");
  if (given.from_history != nullptr && !has_histories) {
    throw std::invalid_argument(
        "variety.calibration.from_history: got some; expected NULL: an index knows no histories");
  }
  for (std::size_t q = 0; q < n_queries; ++q) {
    check_number(given.strength[q], 0, 1, "calibration.strength", q, "a number from 0 to 1");
    check_one_rule(known, given.strength[q], q, "calibration");
    check_shares(given, q);
  }
  variety_.calibration = {column,       given.strength, given.splits,
                          given.values, given.shares,   given.from_history};
}

void CheckedVariety::set_dampening(const shortlist_variety& known, std::size_t n_queries) {
  check_pointer(known.terms, "variety.terms", "a number for each row");
  check_pointer(known.dampening, "variety.dampening", "a number for each query");
  constexpr double kMost = std::numeric_limits<double>::max();
  for (std::size_t row = 0; row < known.n_rows; ++row) {
    check_number(known.terms[row], 0, kMost, "terms", row, "a number of 0 or more");
  }
  for (std::size_t q = 0; q < n_queries; ++q) {
    check_number(known.dampening[q], 0, kMost, "dampening", q, "a number of 0 or more");
    check_one_rule(known, known.dampening[q], q, "dampening");
  }
  variety_.dampening = {known.terms, known.dampening};
}

CheckedVariety::CheckedVariety(const IndexView& view, std::size_t n_queries, std::size_t top_n,
                               const shortlist_variety* given, bool has_histories) {
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
    columns_.push_back(
        column_of(known.columns[i], known.n_rows, "variety.columns[" + std::to_string(i) + "]"));
  }
  for (std::size_t i = 0; i < known.n_quotas; ++i) {
    check_pointer(known.quotas[i], "variety.quotas", "masks of n_rows bytes");
  }
  variety_.columns = columns_.data();
  variety_.n_columns = known.n_columns;
  variety_.at_most = known.at_most;
  variety_.quotas = known.quotas;
  variety_.n_quotas = known.n_quotas;
  variety_.at_least = known.at_least;
  variety_.diversity = known.diversity;
  if (known.calibration != nullptr) set_calibration(known, n_queries, has_histories);
  if (known.dampening != nullptr || known.terms != nullptr) set_dampening(known, n_queries);
}

shortlist_filter known_filter(const shortlist_filter* filter) {
  constexpr std::size_t kFirst = offsetof(shortlist_filter, variety);  // of ABI version 4
  return known_fields(filter, "filter", kFirst);
}

}  // namespace shortlist::c_api
