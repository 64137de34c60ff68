#include "bindings/call_variety.hpp"

#include <algorithm>
#include <stdexcept>

namespace shortlist::bindings {
namespace {

void expect(bool is_right, const char* message) {
  if (!is_right) throw std::invalid_argument(message);
}

bool has_shape(const py::array& array, std::size_t n_rows, std::size_t n_columns) {
  return array.ndim() == 2 && static_cast<std::size_t>(array.shape(0)) == n_rows &&
         static_cast<std::size_t>(array.shape(1)) == n_columns;
}

}  // namespace

CallVariety::CallVariety(std::size_t n, std::size_t n_rows,
                         const std::optional<GivenVariety>& given)
    : n_(n), given_(given) {
  if (!given_) return;
  const auto& [columns, at_most, quotas, at_least, diversity, calibration, dampening] = *given_;
  for (const GivenColumn& column : columns) {
    check_column(column, n_rows);
    const auto& [values, splits] = column;
    columns_.push_back({values.data(), splits ? splits->data() : nullptr});
  }
  for (const auto& quota : quotas) {
    expect(static_cast<std::size_t>(quota.size()) == n_rows, "quotas: expected a flag an item row");
    quotas_.push_back(reinterpret_cast<const unsigned char*>(quota.data()));
  }
  expect(has_shape(at_most, n, columns_.size()), "at_most: expected (n, n_columns)");
  expect(has_shape(at_least, n, quotas_.size()), "at_least: expected (n, n_quotas)");
  variety_.columns = columns_.data();
  variety_.n_columns = columns_.size();
  variety_.at_most = at_most.data();
  variety_.quotas = quotas_.data();
  variety_.n_quotas = quotas_.size();
  variety_.at_least = at_least.data();
  if (calibration) set_calibration(*calibration, n_rows);
  if (dampening) set_dampening(*dampening, n_rows);
  if (!diversity) return;
  expect(static_cast<std::size_t>(diversity->size()) == n, "diversity: expected a number a query");
  variety_.diversity = diversity->data();
}

void CallVariety::set_calibration(const GivenCalibration& given, std::size_t n_rows) {
  const auto& [column, strength, splits, values, shares, is_from_history] = given;
  check_column(column, n_rows);
  expect(static_cast<std::size_t>(strength.size()) == n_, "calibration: expected n strengths");
  expect(static_cast<std::size_t>(is_from_history.size()) == n_, "calibration: expected n flags");
  const std::int64_t* const begin = splits.data();
  const auto n_splits = static_cast<std::size_t>(splits.size());
  expect(n_splits == n_ + 1 && begin[0] == 0 && std::is_sorted(begin, begin + n_splits) &&
             begin[n_] == values.size() && values.size() == shares.size(),
         "calibration: expected splits that ascend from 0 to the number of values and shares");
  variety_.calibration = {
      {std::get<0>(column).data(), std::get<1>(column) ? std::get<1>(column)->data() : nullptr},
      strength.data(),
      begin,
      values.data(),
      shares.data(),
      reinterpret_cast<const unsigned char*>(is_from_history.data())};
}

void CallVariety::set_dampening(const GivenDampening& given, std::size_t n_rows) {
  const auto& [terms, weight] = given;
  expect(static_cast<std::size_t>(terms.size()) == n_rows, "dampening: expected a term a row");
  expect(static_cast<std::size_t>(weight.size()) == n_, "dampening: expected n weights");
  variety_.dampening = {terms.data(), weight.data()};
}

void CallVariety::check_column(const GivenColumn& column, std::size_t n_rows) const {
  const auto& [values, splits] = column;
  const auto n = static_cast<std::size_t>(values.size());
  if (!splits) return expect(n == n_rows, "groups: expected a value an item row");
  const std::int64_t* const begin = splits->data();
  const auto n_splits = static_cast<std::size_t>(splits->size());
  expect(n_splits == n_rows + 1 && begin[0] == 0 && std::is_sorted(begin, begin + n_splits) &&
             begin[n_rows] == static_cast<std::int64_t>(n),
         "groups: expected splits that ascend from 0 to the number of values");
}

void CallVariety::set_chosen(const std::optional<GivenChosen>& chosen, std::size_t dim) {
  if (!chosen) return;
  chosen_ = chosen;
  const auto& [vectors, splits] = *chosen_;
  const auto n_vectors = static_cast<std::size_t>(vectors.ndim() == 2 ? vectors.shape(0) : 0);
  expect(has_shape(vectors, n_vectors, dim), "chosen: expected vectors of the index's dim");
  const std::int64_t* const begin = splits.data();
  expect(static_cast<std::size_t>(splits.size()) == n_ + 1 && begin[0] == 0 &&
             begin[n_] == static_cast<std::int64_t>(n_vectors),
         "chosen: expected splits from 0 to the number of vectors");
  expect(variety_.diversity != nullptr, "chosen: expected a diversity");
  for (std::size_t q = 0; q < n_; ++q) {
    expect(begin[q] < begin[q + 1] && variety_.diversity[q] > 0,
           "chosen: expected a vector and a diversity above 0 for each query");
  }
  variety_.chosen = vectors.data();
  variety_.chosen_splits = begin;
}

RowArray CallVariety::room_for_missing() const {
  RowArray missing({n_, quotas_.size()});
  std::fill_n(missing.mutable_data(), missing.size(), std::int64_t{0});
  return missing;
}

}  // namespace shortlist::bindings
