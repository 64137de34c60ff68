// Table::thresholds and its reading, and Table::best_scores, compiled once per instruction set
// (static: every kernel file has its own).
#pragma once

#include "src/kernels/fetch.hpp"
#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {

// In this form each becomes one instruction.
static inline double lesser(double a, double b) {
  return a < b ? a : b;
}
static inline double greater(double a, double b) {
  return a > b ? a : b;
}

// u.x <= s t (dot - offset) + r ||u|| + f m, so an item is pruned if
//   dot <= (needed + h - r ||u|| - f m) / (s t) + offset.
// Where scales differ: dividing by the largest s is safe above zero, by the smallest below, so the
// lesser quotient is. Everything is float64; the factors 1 - 1e-9 and 1 + 1e-9 and what is taken
// from the offset cover rounding here and truncation toward zero.
static void thresholds(const BlockStats* stats, size_t first, size_t n_blocks,
                       const QueryBound* query, int32_t* out) {
  constexpr double kLimit = kPruned;
  const double* inverse_scale = stats->inverse_scale + first;
  const double* inverse_least = stats->inverse_least + first;
  const double* residual = stats->residual + first;
  const double* code_norm = stats->code_norm + first;
  const double* norm = stats->norm + first;
  const double* half_square = stats->half_square + first;
  const QueryBound q = *query;
  const double least_needed = q.needed - q.slack;
  const double above_zero = q.inverse_scale * (1 - 1e-9);
  const double below_zero = q.inverse_scale * (1 + 1e-9);
  const double offset = q.offset - (2.0 + 2e-9 * (q.offset < 0 ? -q.offset : q.offset));
  for (size_t b = 0; b < n_blocks; ++b) {
    const double needed = least_needed + half_square[b] * (1 - 1e-11);
    const double room = needed - (q.norm * residual[b] + q.residual * code_norm[b]);
    double dot =
        lesser(room * (inverse_scale[b] * above_zero), room * (inverse_least[b] * below_zero));
    dot = lesser(greater(dot + offset, -kLimit), kLimit);
    // Cauchy-Schwarz alone prunes the whole block: no dot product reaches this value.
    dot = needed > q.norm * norm[b] ? kLimit : dot;
    out[b] = static_cast<int32_t>(dot);
  }
}

// True if no query of a tile can find anything in the block at thresholds[0].
template <size_t kQueries>
static bool is_pruned(const int32_t* thresholds) {
  for (size_t q = 0; q < kQueries; ++q) {
    if (thresholds[q * kMaxScanBlocks] != kPruned) return false;
  }
  return true;
}

// The score of one step of the dot product, and h, for each of up to kMaxScanBlocks blocks.
static inline void units_of(const BlockStats* stats, size_t first, size_t n_blocks,
                            const QueryBound* query, float* unit, float* less) {
  // The largest factors with which no score leaves the float32 range.
  constexpr double kMaxUnit = 1e28, kMaxLess = 1e37;
  for (size_t b = 0; b < n_blocks; ++b) {
    const double step = 1.0 / (stats->inverse_scale[first + b] * query->inverse_scale);
    unit[b] = static_cast<float>(lesser(step, kMaxUnit));
    less[b] = static_cast<float>(lesser(stats->half_square[first + b], kMaxLess));
  }
}

// A guess that costs little and need not be safe: it chooses the items that are scored first.
// kLargest(maxima) is the largest of the kMaximaLanes of a block: a loop over so few is not made
// one instruction (GCC 12).
template <int32_t (*kLargest)(const int32_t*)>
static void best_scores(const BlockStats* stats, size_t first, size_t n_blocks,
                        const QueryBound* query, const int32_t* maxima, size_t n_parts,
                        float* out) {
  const int32_t offset = static_cast<int32_t>(query->offset);
  float unit[kMaxScanBlocks], less[kMaxScanBlocks];
  size_t n;
  for (size_t start = 0; start < n_blocks; start += n) {
    n = n_blocks - start < kMaxScanBlocks ? n_blocks - start : kMaxScanBlocks;
    units_of(stats, first + start, n, query, unit, less);
    if (n_parts == 1) {
      int32_t most[kMaxScanBlocks];
      for (size_t b = 0; b < n; ++b) most[b] = kLargest(maxima + b * kMaximaLanes);
      for (size_t b = 0; b < n; ++b) {
        out[b] = static_cast<float>(most[b] - offset) * unit[b] - less[b];
      }
    } else {
      for (size_t i = 0; i < n * kMaximaLanes; ++i) {
        const size_t b = i / kMaximaLanes;
        out[i] = static_cast<float>(maxima[i] - offset) * unit[b] - less[b];
      }
    }
    maxima += n * kMaximaLanes, out += n * n_parts;
  }
}

}  // namespace shortlist::kernels
