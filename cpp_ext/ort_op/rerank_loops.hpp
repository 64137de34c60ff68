// The loops of the rerankers, built once for each instruction set (rerank_loops_*.cpp). C types
// only, as in src/kernels: what is built for AVX must not leak into the rest of the library.
//
// Every number is computed by the same operations in the same order on every level, so that a score
// depends on neither the machine nor the size of the batch. Multiply-adds are rounded once where
// that is written, and nowhere else.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shortlist::ort_op {

// Candidates that are scored together. Sums over the numbers of a row are kept in as many lanes,
// element i in lane i % kRerankLanes, which are added by halves at the end.
constexpr size_t kRerankLanes = 16;

enum class Activation { none, relu, tanh, sigmoid, gelu };  // gelu: its tanh form

struct RerankLoops {
  // total[d] += the sum of table[codes[i]][d], i < n, one after another. The table is (n_codes,
  // dim); a code is below n_codes.
  void (*add_rows)(const float* table, size_t dim, const int64_t* codes, size_t n, float* total);
  // first[i] = table[codes[i]] . a, second[i] = table[codes[i]] . b, for i < n.
  void (*dot_two)(const float* table, size_t dim, const int64_t* codes, size_t n, const float* a,
                  const float* b, float* first, float* second);
  // One dense layer for kRerankLanes candidates: values (n_in, lanes), rows `stride` apart ->
  // out (n_out, lanes); weights (n_in, n_out).
  void (*dense)(const float* values, size_t stride, size_t n_in, const float* weights,
                const float* bias, size_t n_out, Activation activation, float* out);
  // totals[i] += share where candidates[i] == code
  void (*add_matches)(const int32_t* candidates, size_t n, int32_t code, float share,
                      float* totals);
};

// Those of the active SIMD level.
const RerankLoops& rerank_loops();

const RerankLoops* rerank_loops_base();
// Defined in builds for x86-64; the caller has asked the CPU.
const RerankLoops* rerank_loops_avx2();
const RerankLoops* rerank_loops_avx512();

}  // namespace shortlist::ort_op
