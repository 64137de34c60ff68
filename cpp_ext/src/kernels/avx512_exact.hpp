// Exact scores with 512-bit registers.
#pragma once

#include <immintrin.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// Two registers of eight float64 lanes.
template <bool kDistance>
inline __m512d add_lanes(__m512d lanes, const double* query, const float* row) {
  const __m512d x = _mm512_cvtps_pd(_mm256_loadu_ps(row));
  const __m512d u = _mm512_loadu_pd(query);
  if (kDistance) {  // the square is not exact: multiply and add stay separate
    const __m512d a = _mm512_sub_pd(u, x);
    return _mm512_add_pd(lanes, _mm512_mul_pd(a, a));
  }
  return _mm512_fmadd_pd(u, x, lanes);
}

// Lanes k and k + 4 of one register.
inline __m256d add_halves(__m512d lanes) {
  return _mm256_add_pd(_mm512_castpd512_pd256(lanes), _mm512_extractf64x4_pd(lanes, 1));
}

inline double reduce_lanes(__m512d low, __m512d high) {
  const __m256d w = _mm256_add_pd(add_halves(low), add_halves(high));
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(w), _mm256_extractf128_pd(w, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

template <bool kDistance>
void score_rows(const double* query, const float* rows, size_t dim, const int64_t* indices,
                size_t n_rows, double* out) {
  const size_t whole = dim - dim % kLanes;
  for (size_t i = 0; i < n_rows; ++i) {
    const float* row = rows + (indices == nullptr ? i : static_cast<size_t>(indices[i])) * dim;
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    for (size_t d = 0; d < whole; d += kLanes) {
      low = add_lanes<kDistance>(low, query + d, row + d);
      high = add_lanes<kDistance>(high, query + d + 8, row + d + 8);
    }
    if (whole < dim) {  // the tail goes through a zero-padded copy: never read past the row
      alignas(64) float tail[kLanes] = {};
      for (size_t d = whole; d < dim; ++d) tail[d - whole] = row[d];
      low = add_lanes<kDistance>(low, query + whole, tail);
      high = add_lanes<kDistance>(high, query + whole + 8, tail + 8);
    }
    out[i] = reduce_lanes(low, high);
  }
}

// What exact_tile.hpp needs.
struct Vector {
  static constexpr size_t kWidth = 8;
  static constexpr size_t kQueries = 4;
  __m512d v;

  static Vector load(const double* from) { return {_mm512_loadu_pd(from)}; }
  static void store(double* to, Vector a) { _mm512_storeu_pd(to, a.v); }
  static Vector broadcast(double a) { return {_mm512_set1_pd(a)}; }
  static Vector zero() { return {_mm512_setzero_pd()}; }
  static Vector add(Vector a, Vector b) { return {_mm512_add_pd(a.v, b.v)}; }
  template <bool kDistance>
  static Vector add_term(Vector lane, Vector u, Vector x) {
    if (kDistance) {  // the square is not exact: multiply and add stay separate
      const __m512d a = _mm512_sub_pd(u.v, x.v);
      return {_mm512_add_pd(lane.v, _mm512_mul_pd(a, a))};
    }
    return {_mm512_fmadd_pd(u.v, x.v, lane.v)};
  }
};

}  // namespace
}  // namespace shortlist::kernels
