#include "engine/history_target.hpp"

#include <map>

#include "engine/column_values.hpp"
#include "src/search/group_values.hpp"

namespace shortlist::engine {

HistoryTarget::HistoryTarget(const Calibration& given, const std::vector<BoundColumn>& bound,
                             std::size_t first, std::size_t n, const IndexView& items)
    : given_(given) {
  for (std::size_t i = 0; i < n; ++i) {
    if (given.is_from_history[i] == 0) {
      const std::int64_t begin = given.splits[i], end = given.splits[i + 1];
      values_.insert(values_.end(), given.values + begin, given.values + end);
      shares_.insert(shares_.end(), given.shares + begin, given.shares + end);
    } else {
      for (const BoundColumn& column : bound) {
        if (column.input->name == "history" && column.given != nullptr) {
          add_history(column, first + i, items);
        }
      }
    }
    splits_.push_back(static_cast<std::int64_t>(values_.size()));
  }
}

void HistoryTarget::add_history(const BoundColumn& history, std::size_t request,
                                const IndexView& items) {
  std::map<std::int32_t, double> sums;
  std::vector<std::int32_t> own;
  double n_items = 0;
  const auto [from, size] = span_of(*history.given, request);
  for (std::size_t k = from; k < from + size; ++k) {
    const std::int64_t row = row_in(items, history, k);
    if (row < 0) continue;
    own.clear();
    each_value(given_.column, row, [&](std::int32_t value) { own.push_back(value); });
    for (const std::int32_t value : own) sums[value] += 1 / static_cast<double>(own.size());
    n_items += !own.empty();
  }
  for (const auto& [value, sum] : sums) {
    values_.push_back(value);
    shares_.push_back(sum / n_items);
  }
}

Calibration HistoryTarget::get() const {
  Calibration calibration = given_;
  calibration.splits = splits_.data();
  calibration.values = values_.data();
  calibration.shares = shares_.data();
  return calibration;
}

}  // namespace shortlist::engine
