// AVX-512 F, BW, VL and VNNI. Compiled with these flags; called only after the CPU check in
// simd.cpp.
#include <immintrin.h>

#include "src/kernels/avx512_exact.hpp"
#include "src/kernels/avx512_row.hpp"
#include "src/kernels/kernels.hpp"
#include "src/kernels/thresholds.hpp"
#include "src/kernels/x86.hpp"

namespace shortlist::kernels {
namespace {

// vpdpbusd adds its four products in 32 bits, without saturation: all codes but -128 are used.
constexpr int32_t kQueryMax = 127;
constexpr size_t kTile = 6;

inline __m512i broadcast(const int8_t* query) {
  return _mm512_set1_epi32(four_codes(query));
}

// dots + codes * query, four products to each sum. Assembly, because around the intrinsic GCC 12
// copies the sums to other registers.
inline __m512i add_products(__m512i dots, __m512i codes, __m512i query) {
#ifdef SHORTLIST_EMULATED
  return _mm512_dpbusd_epi32(dots, codes, query);
#else
  asm volatile("vpdpbusd %2, %1, %0" : "+v"(dots) : "v"(codes), "v"(query));
  return dots;
#endif
}

inline Row zero_row() {
  const __m512i zero = _mm512_setzero_si512();
  return {zero, zero, zero, zero};
}

inline void add_row(Row& row, __m512i a, __m512i b, __m512i c, __m512i d, const int8_t* query) {
  const __m512i q = broadcast(query);
  row.a = add_products(row.a, a, q);
  row.b = add_products(row.b, b, q);
  row.c = add_products(row.c, c, q);
  row.d = add_products(row.d, d, q);
}

// Up to six queries with a block: 24 sums, four codes and the query codes fill 29 of 32 registers.
struct TileDots {
  Row q0, q1, q2, q3, q4, q5;
};

template <size_t kQueries>
inline void add_group(TileDots& dots, const uint8_t* codes, const int8_t* queries) {
  const __m512i a = load(codes), b = load(codes + 64), c = load(codes + 128), d = load(codes + 192);
  add_row(dots.q0, a, b, c, d, queries);
  if constexpr (kQueries > 1) add_row(dots.q1, a, b, c, d, queries + 4);
  if constexpr (kQueries > 2) add_row(dots.q2, a, b, c, d, queries + 8);
  if constexpr (kQueries > 3) add_row(dots.q3, a, b, c, d, queries + 12);
  if constexpr (kQueries > 4) add_row(dots.q4, a, b, c, d, queries + 16);
  if constexpr (kQueries > 5) add_row(dots.q5, a, b, c, d, queries + 20);
}

inline Row add_rows(const Row& x, const Row& y) {
  return {_mm512_add_epi32(x.a, y.a), _mm512_add_epi32(x.b, y.b), _mm512_add_epi32(x.c, y.c),
          _mm512_add_epi32(x.d, y.d)};
}

template <size_t kQueries>
inline TileDots dots_of_block(const uint8_t* codes, size_t n_groups, const int8_t* queries) {
  constexpr size_t kStep = kQueries * kGroupDims;
  TileDots dots = {zero_row(), zero_row(), zero_row(), zero_row(), zero_row(), zero_row()};
  size_t g = 0;
  // Never empty, and the compiler must know: it would copy and spill the sums after the loop.
  if constexpr (kQueries <= 2) {
    // Four or eight sums alone wait for each other's latency: odd groups get their own.
    TileDots odd = dots;
    do {
      add_group<kQueries>(dots, codes, queries);
      add_group<kQueries>(odd, codes + kGroupBytes, queries + kStep);
      g += 2, codes += 2 * kGroupBytes, queries += 2 * kStep;
    } while (g < n_groups);
    dots.q0 = add_rows(dots.q0, odd.q0);
    dots.q1 = add_rows(dots.q1, odd.q1);
  } else {
    do {
      add_group<kQueries>(dots, codes, queries);
      ++g, codes += kGroupBytes, queries += kStep;
    } while (g < n_groups);
  }
  return dots;
}

// The low and the high halves of the bytes: codes of two neighbouring groups.
inline Row nibble_dots_of_block(const uint8_t* nibbles, size_t n_groups, const int8_t* query) {
  const __m512i low = _mm512_set1_epi8(15);
  Row even = zero_row(), odd = zero_row();
  size_t g = 0;
  do {
    const __m512i a = load(nibbles), b = load(nibbles + 64);
    const __m512i c = load(nibbles + 128), d = load(nibbles + 192);
    const auto high = [=](__m512i both) {
      return _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    };
    add_row(even, _mm512_and_si512(a, low), _mm512_and_si512(b, low), _mm512_and_si512(c, low),
            _mm512_and_si512(d, low), query);
    add_row(odd, high(a), high(b), high(c), high(d), query + kGroupDims);
    g += 2, nibbles += kGroupBytes, query += 2 * kGroupDims;
  } while (g < n_groups);
  return add_rows(even, odd);
}

// use(q, row) for every query of the tile.
template <size_t kQueries, class Use>
inline void for_each_row(const TileDots& dots, const Use& use) {
  use(0, dots.q0);
  if constexpr (kQueries > 1) use(1, dots.q1);
  if constexpr (kQueries > 2) use(2, dots.q2);
  if constexpr (kQueries > 3) use(3, dots.q3);
  if constexpr (kQueries > 4) use(4, dots.q4);
  if constexpr (kQueries > 5) use(5, dots.q5);
}

// Query q goes to out[q * stride ..].
template <size_t kQueries>
inline void store_tile(int32_t* out, size_t stride, const TileDots& dots) {
  for_each_row<kQueries>(dots, [=](size_t q, const Row& row) { store_row(out + q * stride, row); });
}

template <size_t kQueries>
inline unsigned above_any(const TileDots& dots, const int32_t* thresholds) {
  unsigned any = above(dots.q0, thresholds[0]);
  if constexpr (kQueries > 1) any |= above(dots.q1, thresholds[kMaxScanBlocks]);
  if constexpr (kQueries > 2) any |= above(dots.q2, thresholds[2 * kMaxScanBlocks]);
  if constexpr (kQueries > 3) any |= above(dots.q3, thresholds[3 * kMaxScanBlocks]);
  if constexpr (kQueries > 4) any |= above(dots.q4, thresholds[4 * kMaxScanBlocks]);
  if constexpr (kQueries > 5) any |= above(dots.q5, thresholds[5 * kMaxScanBlocks]);
  return any;
}

// Rare path: writes the hits of one block, whose dot products are dots[query][64].
__attribute__((noinline)) size_t write_hits(const int32_t* dots, size_t n_queries,
                                            const int32_t* thresholds, uint32_t first_item,
                                            Hit* hits) {
  size_t n_hits = 0;
  for (uint32_t q = 0; q < n_queries; ++q, dots += kBlockItems, thresholds += kMaxScanBlocks) {
    const Row row = load_row(dots);
    if (above(row, *thresholds) == 0) continue;  // one query of the tile has a hit, seldom more
    n_hits += write_row(dots, row, *thresholds, q, first_item, hits + n_hits);
  }
  return n_hits;
}

template <size_t kQueries>
size_t scan_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
                 const int32_t* thresholds, Ahead ahead, Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, codes += n_groups * kGroupBytes) {
    fetch(ahead);
    if (is_pruned<kQueries>(thresholds + b)) continue;
    const TileDots dots = dots_of_block<kQueries>(codes, n_groups, queries);
    if (__builtin_expect(above_any<kQueries>(dots, thresholds + b) == 0, 1)) continue;
    alignas(64) int32_t values[kQueries * kBlockItems];
    store_tile<kQueries>(values, kBlockItems, dots);
    n_hits += write_hits(values, kQueries, thresholds + b, static_cast<uint32_t>(b * kBlockItems),
                         hits + n_hits);
  }
  return n_hits;
}

size_t scan_nibbles(const uint8_t* nibbles, size_t n_blocks, size_t n_groups, const int8_t* query,
                    const int32_t* thresholds, Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, nibbles += n_groups / 2 * kGroupBytes) {
    if (thresholds[b] == kPruned) continue;
    const Row dots = nibble_dots_of_block(nibbles, n_groups, query);
    if (__builtin_expect(above(dots, thresholds[b]) == 0, 1)) continue;
    alignas(64) int32_t values[kBlockItems];
    store_row(values, dots);
    n_hits += write_hits(values, 1, thresholds + b, static_cast<uint32_t>(b * kBlockItems),
                         hits + n_hits);
  }
  return n_hits;
}

template <size_t kQueries>
void dots_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
               int32_t* dots, int32_t* maxima) {
  const size_t step = n_blocks * kMaximaLanes;
  for (size_t b = 0; b < n_blocks; ++b, dots += kBlockItems, maxima += kMaximaLanes) {
    const TileDots sums =
        dots_of_block<kQueries>(codes + b * n_groups * kGroupBytes, n_groups, queries);
    store_tile<kQueries>(dots, n_blocks * kBlockItems, sums);
    for_each_row<kQueries>(sums,
                           [=](size_t q, const Row& row) { store_maxima(maxima + q * step, row); });
  }
}

size_t scan(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
            size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  switch (n_queries) {
    case 1:
      return scan_tile<1>(codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
    case 2:
      return scan_tile<2>(codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
    case 3:
      return scan_tile<3>(codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
    case 4:
      return scan_tile<4>(codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
    case 5:
      return scan_tile<5>(codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
    default:
      return scan_tile<6>(codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
  }
}

void dots(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
          size_t n_queries, int32_t* dots, int32_t* maxima) {
  switch (n_queries) {
    case 1:
      return dots_tile<1>(codes, n_blocks, n_groups, queries, dots, maxima);
    case 2:
      return dots_tile<2>(codes, n_blocks, n_groups, queries, dots, maxima);
    case 3:
      return dots_tile<3>(codes, n_blocks, n_groups, queries, dots, maxima);
    case 4:
      return dots_tile<4>(codes, n_blocks, n_groups, queries, dots, maxima);
    case 5:
      return dots_tile<5>(codes, n_blocks, n_groups, queries, dots, maxima);
    default:
      return dots_tile<6>(codes, n_blocks, n_groups, queries, dots, maxima);
  }
}

size_t pick(const int32_t* dots, const int32_t* maxima, size_t n_blocks, const int32_t* thresholds,
            Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b) {
    if (largest(maxima + b * kMaximaLanes) <= thresholds[b]) continue;
    n_hits += write_hits(dots + b * kBlockItems, 1, thresholds + b,
                         static_cast<uint32_t>(b * kBlockItems), hits + n_hits);
  }
  return n_hits;
}

}  // namespace
}  // namespace shortlist::kernels

#include "src/kernels/fill_table.hpp"

namespace shortlist::kernels {

const Table* avx512_table() {
  static constexpr Table kTable = filled_table("avx512", kQueryMax, kTile);
  return &kTable;
}

}  // namespace shortlist::kernels
