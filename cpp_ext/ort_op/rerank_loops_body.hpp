// The loops themselves, for the file that includes them inside its own compiler flags. The vectors
// are the compiler's (GCC and Clang): on every level it cuts them into the registers there are.
#pragma once

#include "ort_op/rerank_loops.hpp"

#if defined(__FMA__)
#include <immintrin.h>
#endif

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

inline Lanes all(float x) {
  return Lanes{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

inline Lanes load_some(const float* from, size_t n) {
  float copy[kRerankLanes] = {};
  for (size_t i = 0; i < n; ++i) copy[i] = from[i];
  return load(copy);
}

using Eight = float __attribute__((vector_size(32)));
using Four = float __attribute__((vector_size(16)));

#if defined(__FP_FAST_FMAF)

// a * b + c, rounded once.
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  __m256 first[2], second[2], sum[2];
  __builtin_memcpy(first, &a, sizeof a);
  __builtin_memcpy(second, &b, sizeof b);
  __builtin_memcpy(sum, &c, sizeof c);
  for (size_t i = 0; i < 2; ++i) sum[i] = _mm256_fmadd_ps(first[i], second[i], sum[i]);
  __builtin_memcpy(&c, sum, sizeof c);
  return c;
#else
  for (size_t i = 0; i < kRerankLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

#else

// The same where there is no such instruction: the product is exact in float64, and a sum that is
// rounded to odd there rounds to the right float32 (Boldo, Melquiond, IEEE TC 57, 2008).
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
  using Doubles = double __attribute__((vector_size(8 * kRerankLanes)));
  using Bits = int64_t __attribute__((vector_size(8 * kRerankLanes)));
  const Doubles product = __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles);
  const Doubles added = __builtin_convertvector(c, Doubles);
  const Doubles sum = product + added, part = sum - product;
  const Doubles error = (product - (sum - part)) + (added - part);
  Bits bits = (Bits)sum;
  const Bits is_odd = bits & 1, is_inexact = (error < 0.0) | (error > 0.0);
  const Bits away = (error > 0.0) == (sum > 0.0);  // -1 = to larger numbers
  bits += is_inexact & (is_odd - 1) & (-2 * away - 1);
  return __builtin_convertvector((Doubles)bits, Lanes);
}

#endif

inline float sum_of(Lanes lanes) {
  const Eight eight = __builtin_shufflevector(lanes, lanes, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15);
  const Four four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) +
                    __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const float low = four[0] + four[2], high = four[1] + four[3];
  return low + high;
}

// Dimensions [d, d + n * kRerankLanes) of the sums.
template <size_t n>
inline void add_part(const float* table, size_t dim, const int64_t* codes, size_t n_codes, size_t d,
                     float* total) {
  Lanes sums[n];
  for (size_t j = 0; j < n; ++j) sums[j] = load(total + d + j * kRerankLanes);
  for (size_t i = 0; i < n_codes; ++i) {
    const float* row = table + static_cast<size_t>(codes[i]) * dim + d;
    for (size_t j = 0; j < n; ++j) sums[j] += load(row + j * kRerankLanes);
  }
  for (size_t j = 0; j < n; ++j) store(total + d + j * kRerankLanes, sums[j]);
}

void add_rows(const float* table, size_t dim, const int64_t* codes, size_t n, float* total) {
  size_t d = 0;
  for (; d + 4 * kRerankLanes <= dim; d += 4 * kRerankLanes) {
    add_part<4>(table, dim, codes, n, d, total);
  }
  for (; d + kRerankLanes <= dim; d += kRerankLanes) add_part<1>(table, dim, codes, n, d, total);
  for (size_t i = 0; i < n && d < dim; ++i) {
    const float* row = table + static_cast<size_t>(codes[i]) * dim;
    for (size_t k = d; k < dim; ++k) total[k] += row[k];
  }
}

void dot_two(const float* table, size_t dim, const int64_t* codes, size_t n, const float* a,
             const float* b, float* first, float* second) {
  const size_t whole = dim - dim % kRerankLanes;
  for (size_t i = 0; i < n; ++i) {
    const float* row = table + static_cast<size_t>(codes[i]) * dim;
    Lanes sum_a = {}, sum_b = {};
    for (size_t d = 0; d < whole; d += kRerankLanes) {
      const Lanes values = load(row + d);
      sum_a = multiply_add(values, load(a + d), sum_a);
      sum_b = multiply_add(values, load(b + d), sum_b);
    }
    if (whole < dim) {
      const Lanes values = load_some(row + whole, dim - whole);
      sum_a = multiply_add(values, load_some(a + whole, dim - whole), sum_a);
      sum_b = multiply_add(values, load_some(b + whole, dim - whole), sum_b);
    }
    first[i] = sum_of(sum_a);
    second[i] = sum_of(sum_b);
  }
}

// The rational approximation of Eigen (MPL 2.0, MathFunctionsImpl.h) that TensorFlow and ONNX
// Runtime use as well; within 3 units in the last place.
inline Lanes tanh_of(Lanes x) {
  constexpr float kMost = 7.90531110763549805F;
  x = x > kMost ? all(kMost) : x;
  x = x < -kMost ? all(-kMost) : x;
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

template <Activation kActivation>
inline Lanes activated(Lanes x) {
  switch (kActivation) {
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

// Outputs at a time, as each waits for its own last sum: as many as leave registers for the rest.
#if defined(__AVX512F__)
constexpr size_t kOutputs = 8;
#else
constexpr size_t kOutputs = 4;
#endif

// Outputs [j, j + n) of the layer.
template <size_t n, Activation kActivation>
inline void dense_outputs(const float* values, size_t stride, size_t n_in, const float* weights,
                          const float* bias, size_t n_out, size_t j, float* out) {
  Lanes sums[n];
  for (size_t i = 0; i < n; ++i) sums[i] = all(bias[j + i]);
  for (size_t k = 0; k < n_in; ++k) {
    const Lanes x = load(values + k * stride);
    const float* row = weights + k * n_out + j;
    for (size_t i = 0; i < n; ++i) sums[i] = multiply_add(x, all(row[i]), sums[i]);
  }
  for (size_t i = 0; i < n; ++i) {
    store(out + (j + i) * kRerankLanes, activated<kActivation>(sums[i]));
  }
}

template <Activation kActivation>
void dense_layer(const float* values, size_t stride, size_t n_in, const float* weights,
                 const float* bias, size_t n_out, float* out) {
  size_t j = 0;
  for (; j + kOutputs <= n_out; j += kOutputs) {
    dense_outputs<kOutputs, kActivation>(values, stride, n_in, weights, bias, n_out, j, out);
  }
  for (; j < n_out; ++j) {
    dense_outputs<1, kActivation>(values, stride, n_in, weights, bias, n_out, j, out);
  }
}

void dense(const float* values, size_t stride, size_t n_in, const float* weights, const float* bias,
           size_t n_out, Activation activation, float* out) {
  switch (activation) {
    case Activation::none:
      return dense_layer<Activation::none>(values, stride, n_in, weights, bias, n_out, out);
    case Activation::relu:
      return dense_layer<Activation::relu>(values, stride, n_in, weights, bias, n_out, out);
    case Activation::tanh:
      return dense_layer<Activation::tanh>(values, stride, n_in, weights, bias, n_out, out);
    case Activation::sigmoid:
      return dense_layer<Activation::sigmoid>(values, stride, n_in, weights, bias, n_out, out);
    case Activation::gelu:
      return dense_layer<Activation::gelu>(values, stride, n_in, weights, bias, n_out, out);
  }
}

void add_matches(const int32_t* candidates, size_t n, int32_t code, float share, float* totals) {
  for (size_t i = 0; i < n; ++i) totals[i] += candidates[i] == code ? share : 0.0F;
}

constexpr RerankLoops kLoops = {add_rows, dot_two, dense, add_matches};

}  // namespace
}  // namespace shortlist::ort_op
