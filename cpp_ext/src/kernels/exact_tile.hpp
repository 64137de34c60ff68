// Exact scores of several queries with several rows: items in the lanes of a register, so that
// none of its lanes are added to each other. A kernel file has defined a vector of float64 before:
// kWidth, kQueries (whose sums fit into the registers), load, store, broadcast, zero, add, and
// add_term (a row's number and a query's to a lane).
#pragma once

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

template <typename V, size_t kQueries>
struct TileSums {
  V v[2 * kQueries];  // two registers of rows for each query
};

template <typename V, size_t kQueries>
[[gnu::always_inline]] inline TileSums<V, kQueries> add_sums(TileSums<V, kQueries> a,
                                                             const TileSums<V, kQueries>& b) {
  for (size_t i = 0; i < 2 * kQueries; ++i) a.v[i] = V::add(a.v[i], b.v[i]);
  return a;
}

// Lane k of the fixed order (kernels.hpp).
template <typename V, size_t kQueries, bool kDistance>
[[gnu::always_inline]] inline TileSums<V, kQueries> lane_sums(const double* const* queries,
                                                              const double* tile, size_t dim,
                                                              size_t k) {
  TileSums<V, kQueries> sums;
  for (V& sum : sums.v) sum = V::zero();
  for (size_t d = k; d < dim; d += kLanes) {
    const V x = V::load(tile + d * kTileRows), y = V::load(tile + d * kTileRows + V::kWidth);
    for (size_t q = 0; q < kQueries; ++q) {
      const V u = V::broadcast(queries[q][d]);
      sums.v[2 * q] = V::template add_term<kDistance>(sums.v[2 * q], u, x);
      sums.v[2 * q + 1] = V::template add_term<kDistance>(sums.v[2 * q + 1], u, y);
    }
  }
  return sums;
}

template <typename V, size_t kQueries, bool kDistance>
[[gnu::always_inline]] inline TileSums<V, kQueries> four_lanes(const double* const* queries,
                                                               const double* tile, size_t dim,
                                                               size_t k) {
  const auto a = lane_sums<V, kQueries, kDistance>(queries, tile, dim, k);
  const auto b = lane_sums<V, kQueries, kDistance>(queries, tile, dim, k + 4);
  const auto ab = add_sums<V, kQueries>(a, b);
  const auto c = lane_sums<V, kQueries, kDistance>(queries, tile, dim, k + 8);
  const auto d = lane_sums<V, kQueries, kDistance>(queries, tile, dim, k + 12);
  return add_sums<V, kQueries>(ab, add_sums<V, kQueries>(c, d));
}

template <typename V, size_t kQueries, bool kDistance>
[[gnu::always_inline]] inline void score_some(const double* const* queries, const double* tile,
                                              size_t dim, double* out, size_t stride) {
  for (size_t r = 0; r < kTileRows; r += 2 * V::kWidth) {
    const auto w0 = four_lanes<V, kQueries, kDistance>(queries, tile + r, dim, 0);
    const auto w2 = four_lanes<V, kQueries, kDistance>(queries, tile + r, dim, 2);
    const auto even = add_sums<V, kQueries>(w0, w2);
    const auto w1 = four_lanes<V, kQueries, kDistance>(queries, tile + r, dim, 1);
    const auto w3 = four_lanes<V, kQueries, kDistance>(queries, tile + r, dim, 3);
    const auto sums = add_sums<V, kQueries>(even, add_sums<V, kQueries>(w1, w3));
    for (size_t q = 0; q < kQueries; ++q) {
      V::store(out + q * stride + r, sums.v[2 * q]);
      V::store(out + q * stride + r + V::kWidth, sums.v[2 * q + 1]);
    }
  }
}

template <typename V, bool kDistance>
void score_tile(const double* const* queries, size_t n_queries, const double* tile, size_t dim,
                double* out, size_t stride) {
  constexpr size_t kQueries = V::kQueries;
  size_t q = 0;
  for (; q + kQueries <= n_queries; q += kQueries) {
    score_some<V, kQueries, kDistance>(queries + q, tile, dim, out + q * stride, stride);
  }
  for (; q < n_queries; ++q) {
    score_some<V, 1, kDistance>(queries + q, tile, dim, out + q * stride, stride);
  }
}

}  // namespace
}  // namespace shortlist::kernels
