#include "src/rows/exact.hpp"

#include <algorithm>

namespace shortlist {
namespace {

// Rows that are widened at a time: few enough to stay in the first-level cache.
constexpr std::size_t kWidenedRows = 16;

}  // namespace

void exact_sums(const kernels::Table& table, Metric metric, const StoredRows& vectors,
                const double* query, const std::int64_t* slots, std::size_t first, std::size_t n,
                double* sums) {
  const auto kernel = metric == Metric::euclidean ? table.distance_rows : table.dot_rows;
  const std::size_t dim = vectors.dim;
  if (vectors.are_floats()) {
    kernel(query, vectors.float_row(first), dim, slots, n, sums);
    return;
  }
  thread_local std::vector<float> widened;
  widened.resize(std::max(widened.size(), kWidenedRows * dim));
  for (std::size_t start = 0; start < n; start += kWidenedRows) {
    const std::size_t n_rows = std::min(kWidenedRows, n - start);
    for (std::size_t i = start; i < start + n_rows; ++i) {
      const std::size_t slot = slots == nullptr ? first + i : static_cast<std::size_t>(slots[i]);
      vectors.widen(slot, widened.data() + (i - start) * dim);
    }
    kernel(query, widened.data(), dim, nullptr, n_rows, sums + start);
  }
}

}  // namespace shortlist
