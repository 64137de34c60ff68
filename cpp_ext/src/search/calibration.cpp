#include "src/search/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "src/search/group_values.hpp"

namespace shortlist {
namespace {

constexpr double kSmoothing = 0.01;
// More than what the roundings of a distance can come to: it is 5 at most.
constexpr double kSlack = 1e-9;

}  // namespace

std::size_t most_values(const GroupColumn& column, std::size_t n_rows) {
  if (column.splits == nullptr) return 1;
  std::int64_t most = 0;
  for (std::size_t row = 0; row < n_rows; ++row) {
    most = std::max(most, column.splits[row + 1] - column.splits[row]);
  }
  return static_cast<std::size_t>(most);
}

CalibratedList::CalibratedList(const Calibration& calibration, std::size_t query, std::size_t top_n,
                               std::size_t most_values)
    : column_(calibration.column),
      values_(calibration.values + calibration.splits[query]),
      shares_(calibration.shares + calibration.splits[query]),
      n_values_(
          static_cast<std::size_t>(calibration.splits[query + 1] - calibration.splits[query])),
      most_values_(most_values),
      strength_(calibration.strength[query]),
      length_(static_cast<double>(top_n)),
      n_free_(length_ - 1),
      sums_(n_values_),
      same_(n_values_) {
  count_terms();
}

void CalibratedList::read(std::int64_t row, Pattern* pattern) const {
  pattern->assign(1, 0);
  each_value(column_, row, [&](std::int32_t value) {
    ++(*pattern)[0];
    const std::int32_t* const end = values_ + n_values_;
    const std::int32_t* const found = std::lower_bound(values_, end, value);
    if (found == end || *found != value) return;
    pattern->push_back(static_cast<std::int32_t>(found - values_));
  });
  std::sort(pattern->begin() + 1, pattern->end());
}

// A value's part of the distance with one more item, whose share of it is `more`.
double CalibratedList::term(std::size_t value, double more) const {
  const double share = shares_[value];
  const double listed = (sums_[value] + more + n_free_ * share) / length_;
  return share * std::log(share / ((1 - kSmoothing) * listed + kSmoothing * share));
}

void CalibratedList::count_terms() {
  for (std::size_t value = 0; value < n_values_; ++value) same_[value] = term(value, 0);
}

double CalibratedList::distance_with(const Pattern& pattern) const {
  const double more = 1.0 / pattern[0];  // not used where it is 1 / 0
  double distance = 0;
  std::size_t next = 1;
  for (std::size_t value = 0; value < n_values_; ++value) {
    const bool has = next < pattern.size() && pattern[next] == static_cast<std::int32_t>(value);
    next += has;
    distance += has ? term(value, more) : same_[value];
  }
  return distance;
}

// The distance is a sum over values, so of all sets of n values the one of the n greatest gains
// makes it least.
double CalibratedList::least_distance() const {
  double base = 0;
  for (const double one : same_) base += one;
  double least = base;
  std::vector<double> gains(n_values_);
  for (std::size_t n = 1; n <= std::min(n_values_, most_values_); ++n) {
    for (std::size_t value = 0; value < n_values_; ++value) {
      gains[value] = same_[value] - term(value, 1.0 / static_cast<double>(n));
    }
    std::partial_sort(gains.begin(), gains.begin() + static_cast<std::ptrdiff_t>(n), gains.end(),
                      std::greater<>());
    double with = base;
    for (std::size_t i = 0; i < n; ++i) with -= gains[i];
    least = std::min(least, with);
  }
  return least - kSlack;
}

void CalibratedList::add(const Pattern& pattern) {
  const double more = 1.0 / pattern[0];  // not used where it is 1 / 0
  for (auto value = pattern.begin() + 1; value != pattern.end(); ++value) {
    sums_[static_cast<std::size_t>(*value)] += more;
  }
  n_free_ -= 1;
  if (n_free_ >= 0) count_terms();
}

}  // namespace shortlist
