// The loops themselves, for the file that includes them inside its own compiler flags. The vectors
// are the compiler's (GCC and Clang): on every level it cuts them into the registers there are.
#pragma once

#include "rerank_loops.hpp"

namespace shortlist::ort_op {
namespace {

using Lanes = float __attribute__((vector_size(4 * kRerankLanes)));

// memcpy, as rows need no alignment; it becomes one load.
inline Lanes load(const float* from) {
  Lanes lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

inline void store(float* to, Lanes lanes) {
  __builtin_memcpy(to, &lanes, sizeof lanes);
}

inline Lanes load_some(const float* from, size_t n) {
  float copy[kRerankLanes] = {};
  for (size_t i = 0; i < n; ++i) copy[i] = from[i];
  return load(copy);
}

using Eight = float __attribute__((vector_size(32)));
using Four = float __attribute__((vector_size(16)));

inline float sum_of(Lanes lanes) {
  const Eight eight = __builtin_shufflevector(lanes, lanes, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15);
  const Four four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) +
                    __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const float low = four[0] + four[2], high = four[1] + four[3];
  return low + high;
}

void add_row(const float* row, size_t dim, float* total) {
  for (size_t d = 0; d < dim; ++d) total[d] += row[d];
}

void dot_two(const float* table, size_t dim, const int64_t* codes, size_t n, const float* a,
             const float* b, float* first, float* second) {
  const size_t whole = dim - dim % kRerankLanes;
  for (size_t i = 0; i < n; ++i) {
    const float* row = table + static_cast<size_t>(codes[i]) * dim;
    Lanes sum_a = {}, sum_b = {};
    for (size_t d = 0; d < whole; d += kRerankLanes) {
      const Lanes values = load(row + d);
      sum_a += values * load(a + d);
      sum_b += values * load(b + d);
    }
    if (whole < dim) {
      const Lanes values = load_some(row + whole, dim - whole);
      sum_a += values * load_some(a + whole, dim - whole);
      sum_b += values * load_some(b + whole, dim - whole);
    }
    first[i] = sum_of(sum_a);
    second[i] = sum_of(sum_b);
  }
}

// The rational approximation of Eigen (MPL 2.0, MathFunctionsImpl.h) that TensorFlow and ONNX
// Runtime use as well; within 3 units in the last place.
inline Lanes tanh_of(Lanes x) {
  constexpr float kMost = 7.90531110763549805F;
  x = x > kMost ? Lanes{} + kMost : x;
  x = x < -kMost ? Lanes{} - kMost : x;
  const Lanes square = x * x;
  Lanes odd = square * -2.76076847742355e-16F + 2.00018790482477e-13F;
  odd = odd * square + -8.60467152213735e-11F;
  odd = odd * square + 5.12229709037114e-08F;
  odd = odd * square + 1.48572235717979e-05F;
  odd = odd * square + 6.37261928875436e-04F;
  odd = (odd * square + 4.89352455891786e-03F) * x;
  Lanes even = square * 1.19825839466702e-06F + 1.18534705686654e-04F;
  even = even * square + 2.26843463243900e-03F;
  even = even * square + 4.89352518554385e-03F;
  return odd / even;
}

inline Lanes activated(Lanes x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return x > 0.0F ? x : Lanes{};
    case Activation::tanh:
      return tanh_of(x);
    case Activation::sigmoid:
      return tanh_of(x * 0.5F) * 0.5F + 0.5F;
    case Activation::gelu:
      return x * 0.5F * (tanh_of((x + x * x * x * 0.044715F) * 0.7978845608F) + 1.0F);
    case Activation::none:
      break;
  }
  return x;
}

// Outputs [j, j + n) of the layer. Several at once, as each waits for its own last sum; 4 are best
// with 512 bits and cost nothing with fewer (benchmarks/serving.py).
template <size_t n>
inline void dense_outputs(const float* values, size_t n_in, const float* weights, const float* bias,
                          size_t n_out, size_t j, Activation activation, float* out) {
  Lanes sums[n];
  for (size_t i = 0; i < n; ++i) sums[i] = Lanes{} + bias[j + i];
  for (size_t k = 0; k < n_in; ++k) {
    const Lanes x = load(values + k * kRerankLanes);
    for (size_t i = 0; i < n; ++i) sums[i] += x * weights[k * n_out + j + i];
  }
  for (size_t i = 0; i < n; ++i) {
    store(out + (j + i) * kRerankLanes, activated(sums[i], activation));
  }
}

void dense(const float* values, size_t n_in, const float* weights, const float* bias, size_t n_out,
           Activation activation, float* out) {
  size_t j = 0;
  for (; j + 4 <= n_out; j += 4) {
    dense_outputs<4>(values, n_in, weights, bias, n_out, j, activation, out);
  }
  for (; j < n_out; ++j) {
    dense_outputs<1>(values, n_in, weights, bias, n_out, j, activation, out);
  }
}

void add_matches(const int32_t* candidates, size_t n, int32_t code, float share, float* totals) {
  for (size_t i = 0; i < n; ++i) totals[i] += candidates[i] == code ? share : 0.0F;
}

constexpr RerankLoops kLoops = {add_row, dot_two, dense, add_matches};

}  // namespace
}  // namespace shortlist::ort_op
