// Table::thresholds and its reading, and Table::best_scores, compiled once per instruction set
// (static: every kernel file has its own).
#pragma once

#include "kernels.hpp"

namespace shortlist::kernels {

static inline double lesser(double a, double b) {
  return a < b ? a : b;
}

// u.x <= s t (dot - offset) + r ||u|| + f m, so an item is hopeless if
//   dot <= (needed + h - r ||u|| - f m) / (s t) + offset.
// Where scales differ: dividing by the largest s is safe above zero, by the smallest below, so the
// lesser quotient is. Everything is float64; the factors 1 - 1e-9 and 1 + 1e-9 and what is taken
// from the offset cover rounding here and truncation toward zero.
static void thresholds(const BlockStats* stats, size_t first, size_t n_blocks,
                       const QueryBound* query, int32_t* out) {
  constexpr double kLimit = kHopeless;
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
    double dot = lesser(room * (inverse_scale[b] * above_zero),
                        room * (inverse_least[b] * below_zero));
    dot = lesser(dot + offset, kLimit);
    dot = dot < -kLimit ? -kLimit : dot;
    // Cauchy-Schwarz alone proves the whole block hopeless: no dot product reaches this value.
    dot = needed > q.norm * norm[b] ? kLimit : dot;
    out[b] = static_cast<int32_t>(dot);
  }
}

// Brings what a scan of one block is to bring into the second-level cache.
static inline void fetch(Ahead& ahead) {
  const uint8_t* end = ahead.codes + ahead.n_bytes;
  for (; ahead.codes < end; ahead.codes += kCacheLine) __builtin_prefetch(ahead.codes, 0, 2);
}

// True if no query of a tile can find anything in the block at thresholds[0].
template <size_t kQueries>
static bool is_hopeless(const int32_t* thresholds) {
  for (size_t q = 0; q < kQueries; ++q) {
    if (thresholds[q * kMaxScanBlocks] != kHopeless) return false;
  }
  return true;
}

// A guess that costs little and need not be safe: it chooses the items that are scored first.
static void best_scores(const BlockStats* stats, size_t first, size_t n_blocks,
                        const QueryBound* query, const int32_t* maxima, size_t n_parts,
                        float* out) {
  // The largest factors with which no score leaves the float32 range.
  constexpr double kMaxUnit = 1e28, kMaxLess = 1e37;
  const int32_t offset = static_cast<int32_t>(query->offset);
  for (size_t b = 0; b < n_blocks; ++b, maxima += kMaximaLanes, out += n_parts) {
    const double step = 1.0 / (stats->inverse_scale[first + b] * query->inverse_scale);
    const double half_square = stats->half_square[first + b];
    const float unit = static_cast<float>(step < kMaxUnit ? step : kMaxUnit);
    const float less = static_cast<float>(half_square < kMaxLess ? half_square : kMaxLess);
    if (n_parts == 1) {
      int32_t most = maxima[0];
      for (size_t lane = 1; lane < kMaximaLanes; ++lane) {
        most = maxima[lane] > most ? maxima[lane] : most;
      }
      out[0] = static_cast<float>(most - offset) * unit - less;
    } else {
      for (size_t lane = 0; lane < kMaximaLanes; ++lane) {
        out[lane] = static_cast<float>(maxima[lane] - offset) * unit - less;
      }
    }
  }
}

}  // namespace shortlist::kernels
