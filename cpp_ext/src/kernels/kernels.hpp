// The table of functions that every instruction set implements. C types only: kernel files include
// nothing else but intrinsics, because a template instantiated there would carry that instruction
// set into the whole library.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shortlist::kernels {

// Exact scores are summed in float64 in one order on every level: element i goes to lane i % 16,
// lanes are added as w[k] = (l[k] + l[k+4]) + (l[k+8] + l[k+12]), sum = (w[0]+w[2]) + (w[1]+w[3]).
// The product of two float32 is exact in float64, so fused and separate multiply-add agree.
constexpr size_t kLanes = 16;

struct Table {
  const char* name;
  // out[i] = sum over d of query[d] * row[d]; row = rows + indices[i] * dim (or i * dim if indices
  // is null). query is float64, zero-padded to a multiple of kLanes. Rows need no alignment.
  void (*dot_rows)(const double* query, const float* rows, size_t dim, const int64_t* indices,
                   size_t n_rows, double* out);
  // out[i] = sum over d of (query[d] - row[d])^2, each square rounded before it is added.
  void (*distance_rows)(const double* query, const float* rows, size_t dim, const int64_t* indices,
                        size_t n_rows, double* out);
};

const Table* scalar_table();

}  // namespace shortlist::kernels
