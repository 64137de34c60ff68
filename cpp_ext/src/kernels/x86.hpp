// What kernels of every x86 level use. Each kernel file has its own copy.
#pragma once

#include <immintrin.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// The four codes of a query in one group.
inline int32_t four_codes(const int8_t* query) {
  int32_t four;
  __builtin_memcpy(&four, query, 4);
  return four;
}

// The largest of the maxima of a block.
inline int32_t largest(const int32_t* maxima) {
  const __m128i* four = reinterpret_cast<const __m128i*>(maxima);
  __m128i most = _mm_max_epi32(_mm_loadu_si128(four), _mm_loadu_si128(four + 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 0xB1)));
}

}  // namespace
}  // namespace shortlist::kernels
