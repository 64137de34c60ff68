// Table::thresholds and its reading, compiled once per instruction set (static: every kernel file
// has its own).
#pragma once

#include "kernels.hpp"

namespace shortlist::kernels {

// u.x <= s t (dot - offset) + r ||u|| + f m, so an item is hopeless if
//   dot <= (needed + h - r ||u|| - f m) / (s t) + offset.
// Where scales differ: dividing by the largest s is safe above zero, by the smallest below.
// Everything is float64; the last subtraction covers rounding here and truncation toward zero.
static void thresholds(const BlockStats* stats, size_t first, size_t n_blocks,
                       const QueryBound* query, int32_t* out) {
  constexpr double kLimit = 2147483000.0;
  const double* inverse_scale = stats->inverse_scale + first;
  const double* inverse_least = stats->inverse_least + first;
  const double* residual = stats->residual + first;
  const double* code_norm = stats->code_norm + first;
  const double* norm = stats->norm + first;
  const double* half_square = stats->half_square + first;
  const QueryBound q = *query;
  for (size_t b = 0; b < n_blocks; ++b) {
    const double needed = q.needed + half_square[b] - (q.slack + 1e-11 * half_square[b]);
    const double bound = q.norm * residual[b] + q.residual * code_norm[b];
    const double room = needed - bound;
    const double unit = room > 0 ? inverse_scale[b] : inverse_least[b];
    double dot = room * (unit * q.inverse_scale) + q.offset;
    const double size = dot < 0 ? -dot : dot;
    const double offset_size = q.offset < 0 ? -q.offset : q.offset;
    dot -= 2.0 + 1e-9 * (size + offset_size);
    dot = dot > kLimit ? kLimit : dot;
    dot = dot < -kLimit ? -kLimit : dot;
    // Cauchy-Schwarz alone proves the whole block hopeless: no dot product reaches this value.
    dot = needed > q.norm * norm[b] ? kLimit : dot;
    out[b] = static_cast<int32_t>(dot);
  }
}

constexpr int32_t kHopeless = 2147483000;

// True if no query of a tile can find anything in the block at thresholds[0].
template <size_t kQueries>
static bool is_hopeless(const int32_t* thresholds) {
  for (size_t q = 0; q < kQueries; ++q) {
    if (thresholds[q * kMaxScanBlocks] != kHopeless) return false;
  }
  return true;
}

}  // namespace shortlist::kernels
