// What a list of items has to look like as a whole. All views are borrowed for the length of one
// call. docs/variety.md says what each of these means.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shortlist {

// The values of a column of items: none, one or several a row, numbered from 0 without large gaps.
struct GroupColumn {
  const std::int32_t* values = nullptr;  // a negative one is no value
  const std::int64_t* splits = nullptr;  // row r owns values[splits[r], splits[r + 1]); null = one
};

// A distribution over the values of a column, which each list comes near to.
struct Calibration {
  GroupColumn column;
  // (n_queries,), 0 .. 1: the weight of the distance; 0 = any list will do; null = 0 for all
  const double* strength = nullptr;
  // Query q wants the value values[i] in the share shares[i], for i = splits[q] .. splits[q + 1] -
  // 1: values ascend, shares are above 0 and sum to 1. A query without any is not calibrated.
  const std::int64_t* splits = nullptr;
  const std::int32_t* values = nullptr;
  const double* shares = nullptr;
  // (n_queries,), requests of an engine: not 0 = the shares are those of the request's history
  const unsigned char* is_from_history = nullptr;
};

// What is taken off scores because of what an item is, such as the logarithm of its popularity.
struct Dampening {
  const double* terms = nullptr;   // of each row, 0 or more
  const double* weight = nullptr;  // (n_queries,), 0 or more; null = 0 for all
};

// What every query wants of its list.
struct Variety {
  const GroupColumn* columns = nullptr;
  std::size_t n_columns = 0;
  // (n_queries, n_columns): so many items with the same value at most; 0 = any number
  const std::int32_t* at_most = nullptr;
  // A byte a row: whether it counts.
  const unsigned char* const* quotas = nullptr;
  std::size_t n_quotas = 0;
  // (n_queries, n_quotas): so many items that count at least; 0 = any number
  const std::int32_t* at_least = nullptr;
  // (n_queries,), 0 .. 1: the weight of being unlike the items chosen before; null = 0 for all
  const double* diversity = nullptr;
  // Items that are above each list, which goes on below them: query q owns the vectors (n, dim)
  // chosen_splits[q] .. chosen_splits[q + 1] - 1, as stored. null = none; else each query has one
  // at least and a diversity above 0.
  const float* chosen = nullptr;
  const std::int64_t* chosen_splits = nullptr;
  // A query has a diversity, or it is calibrated or dampened: not both.
  Calibration calibration;
  Dampening dampening;

  // Whether it weighs similarities.
  bool is_of_similarities() const {
    return diversity != nullptr || calibration.strength != nullptr || dampening.weight != nullptr;
  }
  bool is_set() const { return n_columns > 0 || n_quotas > 0 || is_of_similarities(); }
  double diversity_of(std::size_t query) const {
    return diversity == nullptr ? 0.0 : diversity[query];
  }
  double dampening_of(std::size_t query) const {
    return dampening.weight == nullptr ? 0.0 : dampening.weight[query];
  }
  bool is_calibrated(std::size_t query) const {
    return calibration.strength != nullptr && calibration.strength[query] > 0 &&
           calibration.splits[query] < calibration.splits[query + 1];
  }
};

// What the queries from `first` on want.
inline Variety variety_from(Variety variety, std::size_t first) {
  if (variety.at_most != nullptr) variety.at_most += first * variety.n_columns;
  if (variety.at_least != nullptr) variety.at_least += first * variety.n_quotas;
  if (variety.diversity != nullptr) variety.diversity += first;
  if (variety.chosen_splits != nullptr) variety.chosen_splits += first;
  Calibration& calibration = variety.calibration;
  if (calibration.strength != nullptr) calibration.strength += first;
  if (calibration.splits != nullptr) calibration.splits += first;
  if (calibration.is_from_history != nullptr) calibration.is_from_history += first;
  if (variety.dampening.weight != nullptr) variety.dampening.weight += first;
  return variety;
}

}  // namespace shortlist
