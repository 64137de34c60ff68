// Exact scores with NEON.
#pragma once

#include <arm_neon.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// Eight registers of two float64 lanes.
struct Lanes {
  float64x2_t v[8];
};

template <bool kDistance>
inline float64x2_t add_two(float64x2_t lanes, const double* query, float64x2_t x) {
  const float64x2_t u = vld1q_f64(query);
  if (kDistance) {  // the square is not exact: multiply and add stay separate
    const float64x2_t a = vsubq_f64(u, x);
    return vaddq_f64(lanes, vmulq_f64(a, a));
  }
  return vfmaq_f64(lanes, u, x);
}

template <bool kDistance>
inline void add_lanes(Lanes& lanes, const double* query, const float* row) {
  for (size_t j = 0; j < 4; ++j) {
    const float32x4_t x = vld1q_f32(row + 4 * j);
    float64x2_t* v = lanes.v + 2 * j;
    v[0] = add_two<kDistance>(v[0], query + 4 * j, vcvt_f64_f32(vget_low_f32(x)));
    v[1] = add_two<kDistance>(v[1], query + 4 * j + 2, vcvt_high_f64_f32(x));
  }
}

inline double reduce_lanes(const Lanes& lanes) {
  const float64x2_t* v = lanes.v;
  const float64x2_t w01 = vaddq_f64(vaddq_f64(v[0], v[2]), vaddq_f64(v[4], v[6]));
  const float64x2_t w23 = vaddq_f64(vaddq_f64(v[1], v[3]), vaddq_f64(v[5], v[7]));
  const float64x2_t pair = vaddq_f64(w01, w23);
  return vgetq_lane_f64(pair, 0) + vgetq_lane_f64(pair, 1);
}

template <bool kDistance>
void score_rows(const double* query, const float* rows, size_t dim, const int64_t* indices,
                size_t n_rows, double* out) {
  const size_t whole = dim - dim % kLanes;
  const float64x2_t zero = vdupq_n_f64(0.0);
  for (size_t i = 0; i < n_rows; ++i) {
    const float* row = rows + (indices == nullptr ? i : static_cast<size_t>(indices[i])) * dim;
    Lanes lanes = {{zero, zero, zero, zero, zero, zero, zero, zero}};
    for (size_t d = 0; d < whole; d += kLanes) add_lanes<kDistance>(lanes, query + d, row + d);
    if (whole < dim) {  // the tail goes through a zero-padded copy: never read past the row
      float tail[kLanes] = {};
      for (size_t d = whole; d < dim; ++d) tail[d - whole] = row[d];
      add_lanes<kDistance>(lanes, query + whole, tail);
    }
    out[i] = reduce_lanes(lanes);
  }
}

// What exact_tile.hpp needs.
struct Vector {
  static constexpr size_t kWidth = 2;
  static constexpr size_t kQueries = 2;
  float64x2_t v;

  static Vector load(const double* from) { return {vld1q_f64(from)}; }
  static void store(double* to, Vector a) { vst1q_f64(to, a.v); }
  static Vector broadcast(double a) { return {vdupq_n_f64(a)}; }
  static Vector zero() { return {vdupq_n_f64(0.0)}; }
  static Vector add(Vector a, Vector b) { return {vaddq_f64(a.v, b.v)}; }
  template <bool kDistance>
  static Vector add_term(Vector lane, Vector u, Vector x) {
    if (kDistance) {  // the square is not exact: multiply and add stay separate
      const float64x2_t a = vsubq_f64(u.v, x.v);
      return {vaddq_f64(lane.v, vmulq_f64(a, a))};
    }
    return {vfmaq_f64(lane.v, u.v, x.v)};
  }
};

}  // namespace
}  // namespace shortlist::kernels
