// The reference implementation of every kernel: plain loops, no intrinsics.
#include "kernels.hpp"

namespace shortlist::kernels {
namespace {

double reduce_lanes(const double* lane) {
  double w[4];
  for (size_t k = 0; k < 4; ++k) w[k] = (lane[k] + lane[k + 4]) + (lane[k + 8] + lane[k + 12]);
  return (w[0] + w[2]) + (w[1] + w[3]);
}

template <bool kDistance>
double row_score(const double* query, const float* row, size_t dim) {
  double lane[kLanes] = {};
  const size_t whole = dim - dim % kLanes;
  for (size_t d = 0; d < whole; d += kLanes) {
    for (size_t k = 0; k < kLanes; ++k) {
      const double x = static_cast<double>(row[d + k]);
      const double a = kDistance ? query[d + k] - x : query[d + k];
      lane[k] += a * (kDistance ? a : x);
    }
  }
  for (size_t d = whole; d < dim; ++d) {
    const double x = static_cast<double>(row[d]);
    const double a = kDistance ? query[d] - x : query[d];
    lane[d - whole] += a * (kDistance ? a : x);
  }
  return reduce_lanes(lane);
}

template <bool kDistance>
void score_rows(const double* query, const float* rows, size_t dim, const int64_t* indices,
                size_t n_rows, double* out) {
  for (size_t i = 0; i < n_rows; ++i) {
    const size_t row = indices == nullptr ? i : static_cast<size_t>(indices[i]);
    out[i] = row_score<kDistance>(query, rows + row * dim, dim);
  }
}

const Table kTable = {"scalar", score_rows<false>, score_rows<true>};

}  // namespace

const Table* scalar_table() {
  return &kTable;
}

}  // namespace shortlist::kernels
