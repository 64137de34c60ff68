// AVX2 + FMA. Compiled with -mavx2 -mfma; called only after the CPU check in simd.cpp.
#include <immintrin.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// maddubs adds two products in 16 bits with saturation, and two of its results are added before
// they are widened: 4 * 255 * 32 = 32640 stays below 2^15, so nothing ever saturates.
constexpr int32_t kQueryMax = 32;

alignas(32) constexpr int16_t kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

// dots + codes x and y of two neighbouring groups times the query codes p and r. Assembly for the
// end of it: GCC 12 would give the ones a register, interleave all sums and spill one of them.
inline __m256i add_two(__m256i dots, __m256i x, __m256i y, __m256i p, __m256i r) {
  __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(x, p), _mm256_maddubs_epi16(y, r));
  asm volatile(
      "vpmaddwd %2, %1, %1\n\t"
      "vpaddd %1, %0, %0"
      : "+x"(dots), "+&x"(pairs)
      : "m"(kOnes));
  return dots;
}

}  // namespace
}  // namespace shortlist::kernels

#include "src/kernels/ymm.hpp"

#include "src/kernels/fill_table.hpp"

namespace shortlist::kernels {

const Table* avx2_table() {
  static constexpr Table kTable = filled_table("avx2", kQueryMax, kTile);
  return &kTable;
}

}  // namespace shortlist::kernels
