#include "bindings/ragged.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace shortlist::bindings {

RaggedRows ragged_rows(const std::optional<Ragged>& ragged, std::size_t n_queries,
                       const char* name) {
  if (!ragged) return {};
  const RowArray& splits = ragged->splits;
  if (splits.ndim() != 1 || static_cast<std::size_t>(splits.shape(0)) != n_queries + 1) {
    throw std::invalid_argument(std::string(name) + ": row_splits must have n_queries + 1 = " +
                                std::to_string(n_queries + 1) + " entries");
  }
  const std::int64_t* data = splits.data();
  bool is_valid = data[0] == 0 && data[n_queries] == ragged->values.size();
  for (std::size_t i = 0; i < n_queries; ++i) is_valid = is_valid && data[i] <= data[i + 1];
  if (!is_valid) {
    throw std::invalid_argument(std::string(name) +
                                ": row_splits must ascend from 0 to the number of values");
  }
  return {ragged->values.data(), data};
}

std::optional<Ragged> to_ragged(const OptionalRagged& pair) {
  if (!pair) return std::nullopt;
  return Ragged{pair->first, pair->second};
}

void check_size(std::size_t n_queries, std::size_t top_n, std::size_t n_rows) {
  constexpr std::size_t kMost = std::numeric_limits<std::int64_t>::max() / sizeof(std::int64_t);
  if (top_n <= kMost / std::max<std::size_t>(1, n_queries)) return;
  throw std::invalid_argument("top_n: got " + std::to_string(top_n) +
                              "; no answer of that size fits into memory, and the index has " +
                              std::to_string(n_rows) + " rows: ask for at most as many");
}

}  // namespace shortlist::bindings
