// NEON with the dot product extension. Compiled with -march=armv8.2-a+dotprod; called only after
// the CPU check in simd.cpp.
#include <arm_neon.h>

#include "src/kernels/kernels.hpp"
#include "src/kernels/neon_exact.hpp"
#include "src/kernels/neon_rows.hpp"
#include "src/kernels/thresholds.hpp"

namespace shortlist::kernels {
namespace {

// sdot adds its four products in 32 bits, without saturation.
constexpr int32_t kQueryMax = 127;
constexpr size_t kTile = 6;

template <size_t kQueries>
inline void add_group(TileDots& dots, const uint8_t* codes, const int8_t* queries) {
  const Codes x = load_codes(codes);
  const int8x16_t low = load_queries<kQueries>(queries);
  add_row<0>(dots.q0, x, low);
  if constexpr (kQueries > 1) add_row<1>(dots.q1, x, low);
  if constexpr (kQueries > 2) add_row<2>(dots.q2, x, low);
  if constexpr (kQueries > 3) add_row<3>(dots.q3, x, low);
  if constexpr (kQueries > 4) {
    const int8x16_t high = load_queries<kQueries - 4>(queries + 16);
    add_row<0>(dots.q4, x, high);
    if constexpr (kQueries > 5) add_row<1>(dots.q5, x, high);
  }
}

template <size_t kQueries>
inline TileDots dots_of_sixteen(const uint8_t* codes, size_t n_groups, const int8_t* queries,
                                const int32_t* offsets) {
  TileDots dots = {start_row(offsets[0]), start_row(offsets[1]), start_row(offsets[2]),
                   start_row(offsets[3]), start_row(offsets[4]), start_row(offsets[5])};
  for (size_t g = 0; g < n_groups; ++g, codes += kGroupBytes, queries += kQueries * kGroupDims) {
    add_group<kQueries>(dots, codes, queries);
  }
  return dots;
}

// One query with 64 items, 16 in each row: memory is read strictly forward, which is what a single
// query waits for.
inline TileDots dots_of_block(const uint8_t* codes, size_t n_groups, const int8_t* query,
                              int32_t offset) {
  const Row start = start_row(offset);
  TileDots dots = {start, start, start, start, start, start};
  size_t g = 0;
  do {
    int32_t four;
    __builtin_memcpy(&four, query, 4);
    const int8x16_t q = vreinterpretq_s8_s32(vdupq_n_s32(four));
    add_row<0>(dots.q0, load_codes(codes), q);
    add_row<0>(dots.q1, load_codes(codes + 64), q);
    // Finish two rows before the next: GCC 12 would load all codes first and spill a sum.
    asm volatile("" : "+r"(codes) : "w"(dots.q0.d), "w"(dots.q1.d));
    add_row<0>(dots.q2, load_codes(codes + 128), q);
    add_row<0>(dots.q3, load_codes(codes + 192), q);
    ++g, codes += kGroupBytes, query += kGroupDims;
  } while (g < n_groups);
  return dots;
}

// Nibbles are small enough to be signed as they are. The low and the high halves of the bytes:
// codes of two neighbouring groups.
inline void add_nibbles(Row& row, const uint8_t* nibbles, int8x16_t even, int8x16_t odd) {
  const auto low = [=](size_t i) {
    return vreinterpretq_s8_u8(vandq_u8(vld1q_u8(nibbles + 16 * i), vdupq_n_u8(15)));
  };
  const auto high = [=](size_t i) {
    return vreinterpretq_s8_u8(vshrq_n_u8(vld1q_u8(nibbles + 16 * i), 4));
  };
  add_row<0>(row, {low(0), low(1), low(2), low(3)}, even);
  add_row<0>(row, {high(0), high(1), high(2), high(3)}, odd);
}

inline TileDots nibble_dots_of_block(const uint8_t* nibbles, size_t n_groups, const int8_t* query) {
  const Row start = start_row(0);
  TileDots dots = {start, start, start, start, start, start};
  for (size_t g = 0; g < n_groups; g += 2, nibbles += kGroupBytes, query += 2 * kGroupDims) {
    const int8x16_t even = load_queries<1>(query), odd = load_queries<1>(query + kGroupDims);
    add_nibbles(dots.q0, nibbles, even, odd);
    add_nibbles(dots.q1, nibbles + 64, even, odd);
    add_nibbles(dots.q2, nibbles + 128, even, odd);
    add_nibbles(dots.q3, nibbles + 192, even, odd);
  }
  return dots;
}

// 128 times the sum of each query's codes.
void sum_queries(const int8_t* queries, size_t n_groups, size_t n_queries, int32_t* offsets) {
  for (size_t q = 0; q < kMaxTile; ++q) offsets[q] = 0;
  for (size_t g = 0; g < n_groups; ++g) {
    for (size_t q = 0; q < n_queries; ++q, queries += kGroupDims) {
      offsets[q] += kCodeOffset * (queries[0] + queries[1] + queries[2] + queries[3]);
    }
  }
}

inline void store_row(int32_t* out, const Row& row) {
  vst1q_s32(out, row.a);
  vst1q_s32(out + 4, row.b);
  vst1q_s32(out + 8, row.c);
  vst1q_s32(out + 12, row.d);
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

// All ones in the lanes where the largest of four sums is above the threshold.
inline uint32x4_t above(const Row& row, int32_t threshold) {
  const int32x4_t most = vmaxq_s32(vmaxq_s32(row.a, row.b), vmaxq_s32(row.c, row.d));
  return vcgtq_s32(most, vdupq_n_s32(threshold));
}

template <size_t kQueries>
inline bool above_any(const TileDots& dots, const int32_t* thresholds) {
  uint32x4_t any = above(dots.q0, thresholds[0]);
  if constexpr (kQueries > 1) any = vorrq_u32(any, above(dots.q1, thresholds[kMaxScanBlocks]));
  if constexpr (kQueries > 2) any = vorrq_u32(any, above(dots.q2, thresholds[2 * kMaxScanBlocks]));
  if constexpr (kQueries > 3) any = vorrq_u32(any, above(dots.q3, thresholds[3 * kMaxScanBlocks]));
  if constexpr (kQueries > 4) any = vorrq_u32(any, above(dots.q4, thresholds[4 * kMaxScanBlocks]));
  if constexpr (kQueries > 5) any = vorrq_u32(any, above(dots.q5, thresholds[5 * kMaxScanBlocks]));
  return vmaxvq_u32(any) != 0;
}

// Rare path: writes the hits among some items, whose dot products are dots[query][n_items].
__attribute__((noinline)) size_t write_hits(const int32_t* dots, size_t n_queries, size_t n_items,
                                            const int32_t* thresholds, uint32_t first_item,
                                            Hit* hits) {
  size_t n_hits = 0;
  for (uint32_t q = 0; q < n_queries; ++q, dots += n_items) {
    for (uint32_t item = 0; item < n_items; ++item) {
      if (dots[item] <= thresholds[q * kMaxScanBlocks]) continue;
      hits[n_hits++] = {first_item + item, q, dots[item]};
    }
  }
  return n_hits;
}

template <size_t kQueries>
size_t scan_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
                 const int32_t* thresholds, Ahead ahead, Hit* hits) {
  int32_t offsets[kMaxTile];
  sum_queries(queries, n_groups, kQueries, offsets);
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, codes += n_groups * kGroupBytes) {
    fetch(ahead);
    if (is_pruned<kQueries>(thresholds + b)) continue;
    for (size_t item = 0; item < kBlockItems; item += 16) {
      const TileDots dots =
          dots_of_sixteen<kQueries>(codes + item * kGroupDims, n_groups, queries, offsets);
      if (__builtin_expect(!above_any<kQueries>(dots, thresholds + b), 1)) continue;
      int32_t values[kQueries * 16];
      store_tile<kQueries>(values, 16, dots);
      n_hits += write_hits(values, kQueries, 16, thresholds + b,
                           static_cast<uint32_t>(b * kBlockItems + item), hits + n_hits);
    }
  }
  return n_hits;
}

// One query; dots_of is dots_of_block or nibble_dots_of_block, with blocks of block_bytes.
template <class DotsOf>
inline size_t scan_alone(const DotsOf& dots_of, const uint8_t* codes, size_t n_blocks,
                         size_t block_bytes, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, codes += block_bytes) {
    fetch(ahead);
    const int32_t t = thresholds[b];
    if (t == kPruned) continue;
    const TileDots dots = dots_of(codes);
    const uint32x4_t any = vorrq_u32(vorrq_u32(above(dots.q0, t), above(dots.q1, t)),
                                     vorrq_u32(above(dots.q2, t), above(dots.q3, t)));
    if (__builtin_expect(vmaxvq_u32(any) == 0, 1)) continue;
    int32_t values[kBlockItems];
    store_tile<4>(values, 16, dots);
    n_hits += write_hits(values, 1, kBlockItems, &t, static_cast<uint32_t>(b * kBlockItems),
                         hits + n_hits);
  }
  return n_hits;
}

size_t scan_one(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* query,
                const int32_t* thresholds, Ahead ahead, Hit* hits) {
  int32_t offsets[kMaxTile];
  sum_queries(query, n_groups, 1, offsets);
  const int32_t offset = offsets[0];
  return scan_alone(
      [=](const uint8_t* block) { return dots_of_block(block, n_groups, query, offset); }, codes,
      n_blocks, n_groups * kGroupBytes, thresholds, ahead, hits);
}

size_t scan_nibbles(const uint8_t* nibbles, size_t n_blocks, size_t n_groups, const int8_t* query,
                    const int32_t* thresholds, Hit* hits) {
  return scan_alone(
      [=](const uint8_t* block) { return nibble_dots_of_block(block, n_groups, query); }, nibbles,
      n_blocks, n_groups / 2 * kGroupBytes, thresholds, {}, hits);
}

// Stores the dot products of a query with items 16 * quarter .. of a block, and their maxima joined
// with those of the quarters before.
inline void put(int32_t* dots, int32_t* maxima, size_t quarter, const Row& row) {
  store_row(dots + 16 * quarter, row);
  int32x4_t low = vmaxq_s32(row.a, row.c), high = vmaxq_s32(row.b, row.d);
  if (quarter > 0) {
    low = vmaxq_s32(low, vld1q_s32(maxima));
    high = vmaxq_s32(high, vld1q_s32(maxima + 4));
  }
  vst1q_s32(maxima, low);
  vst1q_s32(maxima + 4, high);
}

template <size_t kQueries>
void dots_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
               int32_t* dots, int32_t* maxima) {
  int32_t offsets[kMaxTile];
  sum_queries(queries, n_groups, kQueries, offsets);
  const size_t stride = n_blocks * kBlockItems, step = n_blocks * kMaximaLanes;
  for (size_t b = 0; b < n_blocks; ++b, dots += kBlockItems, maxima += kMaximaLanes) {
    for (size_t i = 0; i < kBlockItems / 16; ++i) {
      const uint8_t* start = codes + b * n_groups * kGroupBytes + i * 16 * kGroupDims;
      const TileDots sums = dots_of_sixteen<kQueries>(start, n_groups, queries, offsets);
      for_each_row<kQueries>(sums, [=](size_t q, const Row& row) {
        put(dots + q * stride, maxima + q * step, i, row);
      });
    }
  }
}

size_t scan(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
            size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  constexpr decltype(&scan_one) kFunctions[kTile] = {scan_one,     scan_tile<2>, scan_tile<3>,
                                                     scan_tile<4>, scan_tile<5>, scan_tile<6>};
  return kFunctions[n_queries - 1](codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
}

void dots(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
          size_t n_queries, int32_t* dots, int32_t* maxima) {
  constexpr decltype(&dots_tile<1>) kFunctions[kTile] = {dots_tile<1>, dots_tile<2>, dots_tile<3>,
                                                         dots_tile<4>, dots_tile<5>, dots_tile<6>};
  kFunctions[n_queries - 1](codes, n_blocks, n_groups, queries, dots, maxima);
}

inline int32_t largest(const int32_t* maxima) {
  return vmaxvq_s32(vmaxq_s32(vld1q_s32(maxima), vld1q_s32(maxima + 4)));
}

size_t pick(const int32_t* dots, const int32_t* maxima, size_t n_blocks, const int32_t* thresholds,
            Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, maxima += kMaximaLanes) {
    if (largest(maxima) <= thresholds[b]) continue;
    n_hits += write_hits(dots + b * kBlockItems, 1, kBlockItems, thresholds + b,
                         static_cast<uint32_t>(b * kBlockItems), hits + n_hits);
  }
  return n_hits;
}

}  // namespace
}  // namespace shortlist::kernels

#include "src/kernels/fill_table.hpp"

namespace shortlist::kernels {

const Table* neon_table() {
  static constexpr Table kTable = filled_table("neon", kQueryMax, kTile);
  return &kTable;
}

}  // namespace shortlist::kernels
