// Dot products of one query with the 64 items of a block, in 512-bit registers.
#pragma once

#include <immintrin.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

inline __m512i load(const void* from) {
  return _mm512_loadu_si512(from);
}

// Members instead of an array: an array is spilled to the stack in the inner loop (GCC 12).
struct Row {
  __m512i a, b, c, d;
};

inline Row load_row(const int32_t* from) {
  return {load(from), load(from + 16), load(from + 32), load(from + 48)};
}

inline void store_row(int32_t* out, const Row& row) {
  _mm512_storeu_si512(out, row.a);
  _mm512_storeu_si512(out + 16, row.b);
  _mm512_storeu_si512(out + 32, row.c);
  _mm512_storeu_si512(out + 48, row.d);
}

// The largest of each column of sixteen.
inline __m512i largest_four(const Row& row) {
  return _mm512_max_epi32(_mm512_max_epi32(row.a, row.b), _mm512_max_epi32(row.c, row.d));
}

// Not zero if a sum of the row is above the threshold; one comparison for all 64.
inline unsigned above(const Row& row, int32_t threshold) {
  return _mm512_cmpgt_epi32_mask(largest_four(row), _mm512_set1_epi32(threshold));
}

// The largest of a row's sums in each of eight lanes.
inline void store_maxima(int32_t* out, const Row& row) {
  const __m512i most = largest_four(row);
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(out),
      _mm256_max_epi32(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1)));
}

// Writes the hits of one query in one block, whose dot products are dots[64].
inline size_t write_row(const int32_t* dots, const Row& row, int32_t threshold, uint32_t query,
                        uint32_t first_item, Hit* hits) {
  const __m512i t = _mm512_set1_epi32(threshold);
  const auto mask_of = [t](__m512i values) {
    return static_cast<uint64_t>(_mm512_cmpgt_epi32_mask(values, t));
  };
  const uint64_t low = mask_of(row.b) << 16 | mask_of(row.a);
  const uint64_t high = mask_of(row.d) << 16 | mask_of(row.c);
  size_t n_hits = 0;
  for (uint64_t mask = high << 32 | low; mask != 0; mask &= mask - 1) {
    const uint32_t item = static_cast<uint32_t>(__builtin_ctzll(mask));
    hits[n_hits++] = {first_item + item, query, dots[item]};
  }
  return n_hits;
}

}  // namespace
}  // namespace shortlist::kernels
