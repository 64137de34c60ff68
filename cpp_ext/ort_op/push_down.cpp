#include "ort_op/push_down.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace shortlist::ort_op {
namespace {

// How far a skip pushes, in lengths of the user embedding.
constexpr double kPush = 0.1;

double norm(const float* row, std::size_t dim) {
  double sum = 0;
  for (std::size_t d = 0; d < dim; ++d) {
    sum += static_cast<double>(row[d]) * static_cast<double>(row[d]);
  }
  return std::sqrt(sum);
}

// Adds the unit vector of each known row; returns how many there are.
std::size_t add_units(const IndexView& index, const std::int64_t* begin, const std::int64_t* end,
                      std::vector<float>& vector, std::vector<double>& sum) {
  std::size_t n = 0;
  for (const std::int64_t* row = begin; row != end; ++row) {
    if (*row < 0 || !index.copy_vector(static_cast<std::size_t>(*row), vector.data())) continue;
    const double size =
        std::max(norm(vector.data(), vector.size()), std::numeric_limits<double>::min());
    for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += static_cast<double>(vector[d]) / size;
    ++n;
  }
  return n;
}

}  // namespace

std::vector<float> push_down(const MatrixView& queries, const RaggedRows& skipped,
                             const IndexView& index) {
  const std::size_t dim = queries.dim;
  std::vector<float> pushed(queries.data, queries.data + queries.n_rows * dim), vector(dim);
  std::vector<double> sum(dim);
  for (std::size_t q = 0; q < queries.n_rows; ++q) {
    std::fill(sum.begin(), sum.end(), 0.0);
    const std::size_t n = add_units(index, skipped.values + skipped.splits[q],
                                    skipped.values + skipped.splits[q + 1], vector, sum);
    if (n == 0) continue;
    float* const query = pushed.data() + q * dim;
    const double push = kPush * norm(query, dim);
    for (std::size_t d = 0; d < dim; ++d) {
      query[d] = static_cast<float>(static_cast<double>(query[d]) -
                                    push * (sum[d] / static_cast<double>(n)));
    }
  }
  return pushed;
}

}  // namespace shortlist::ort_op
