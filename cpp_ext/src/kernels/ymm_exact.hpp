// Exact scores of the two levels with 256-bit registers.
#pragma once

#include <immintrin.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// Four registers of four float64 lanes.
struct Lanes {
  __m256d v[4];
};

template <bool kDistance>
inline void add_lanes(Lanes& lanes, const double* query, const float* row) {
  for (size_t j = 0; j < 4; ++j) {
    const __m256d x = _mm256_cvtps_pd(_mm_loadu_ps(row + 4 * j));
    const __m256d u = _mm256_loadu_pd(query + 4 * j);
    if (kDistance) {  // the square is not exact: multiply and add stay separate
      const __m256d a = _mm256_sub_pd(u, x);
      lanes.v[j] = _mm256_add_pd(lanes.v[j], _mm256_mul_pd(a, a));
    } else {
      lanes.v[j] = _mm256_fmadd_pd(u, x, lanes.v[j]);
    }
  }
}

inline double reduce_lanes(const Lanes& lanes) {
  const __m256d w =
      _mm256_add_pd(_mm256_add_pd(lanes.v[0], lanes.v[1]), _mm256_add_pd(lanes.v[2], lanes.v[3]));
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(w), _mm256_extractf128_pd(w, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

template <bool kDistance>
void score_rows(const double* query, const float* rows, size_t dim, const int64_t* indices,
                size_t n_rows, double* out) {
  const size_t whole = dim - dim % kLanes;
  for (size_t i = 0; i < n_rows; ++i) {
    const float* row = rows + (indices == nullptr ? i : static_cast<size_t>(indices[i])) * dim;
    Lanes lanes = {
        {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()}};
    for (size_t d = 0; d < whole; d += kLanes) add_lanes<kDistance>(lanes, query + d, row + d);
    if (whole < dim) {  // the tail goes through a zero-padded copy: never read past the row
      alignas(32) float tail[kLanes] = {};
      for (size_t d = whole; d < dim; ++d) tail[d - whole] = row[d];
      add_lanes<kDistance>(lanes, query + whole, tail);
    }
    out[i] = reduce_lanes(lanes);
  }
}

// What exact_tile.hpp needs.
struct Vector {
  static constexpr size_t kWidth = 4;
  static constexpr size_t kQueries = 2;
  __m256d v;

  static Vector load(const double* from) { return {_mm256_loadu_pd(from)}; }
  static void store(double* to, Vector a) { _mm256_storeu_pd(to, a.v); }
  static Vector broadcast(double a) { return {_mm256_set1_pd(a)}; }
  static Vector zero() { return {_mm256_setzero_pd()}; }
  static Vector add(Vector a, Vector b) { return {_mm256_add_pd(a.v, b.v)}; }
  template <bool kDistance>
  static Vector add_term(Vector lane, Vector u, Vector x) {
    if (kDistance) {  // the square is not exact: multiply and add stay separate
      const __m256d a = _mm256_sub_pd(u.v, x.v);
      return {_mm256_add_pd(lane.v, _mm256_mul_pd(a, a))};
    }
    return {_mm256_fmadd_pd(u.v, x.v, lane.v)};
  }
};

}  // namespace
}  // namespace shortlist::kernels
