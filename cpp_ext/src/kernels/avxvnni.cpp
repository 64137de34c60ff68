// AVX-VNNI: AVX2 with an 8-bit dot product. Compiled with -mavx2 -mfma -mavxvnni; called only after
// the CPU check in simd.cpp.
#include <immintrin.h>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

// vpdpbusd adds its four products in 32 bits, without saturation: all codes but -128 are used.
constexpr int32_t kQueryMax = 127;

// dots + codes * query, four products to each sum. Assembly, because around the intrinsic GCC 12
// copies the sums to other registers and stores two of them to the stack in every round.
inline __m256i add_products(__m256i dots, __m256i codes, __m256i query) {
#ifdef SHORTLIST_EMULATED
  return _mm256_dpbusd_epi32(dots, codes, query);
#else
  asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(dots) : "x"(codes), "x"(query));
  return dots;
#endif
}

inline __m256i add_two(__m256i dots, __m256i x, __m256i y, __m256i p, __m256i r) {
  return add_products(add_products(dots, x, p), y, r);
}

}  // namespace
}  // namespace shortlist::kernels

#include "src/kernels/ymm.hpp"

#include "src/kernels/fill_table.hpp"

namespace shortlist::kernels {

const Table* avxvnni_table() {
  static constexpr Table kTable = filled_table("avxvnni", kQueryMax, kTile);
  return &kTable;
}

}  // namespace shortlist::kernels
