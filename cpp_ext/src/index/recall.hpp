// How much of the truth an approximate index finds (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shortlist/matrix_view.hpp"
#include "shortlist/metric.hpp"
#include "shortlist/neighbor.hpp"
#include "src/kernels/kernels.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

// Some items as queries: their true top 10 among the rows before these are rounded, themselves left
// out, against what a search of the finished index finds.
class RecallSample {
 public:
  RecallSample(const MatrixView& queries, const std::int64_t* rows, Metric metric);

  // Rows first, first + 1, ..; for cosine normalised.
  void add(const MatrixView& rows, std::size_t first);
  // NaN if there is nothing to find.
  double recall_of(const Snapshot& snapshot) const;

 private:
  Metric metric_;
  std::size_t dim_;
  const kernels::Table& table_;
  std::vector<std::int64_t> rows_;
  std::vector<float> queries_;
  std::vector<double> exact_queries_;  // padded to whole lanes
  std::vector<TopN> truth_;
  std::vector<double> sums_;
};

}  // namespace shortlist
