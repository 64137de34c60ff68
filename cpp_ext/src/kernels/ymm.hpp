// Everything the two levels with 256-bit registers share. The including file has defined
// before: add_two(dots, x, y, p, r) = dots + codes x and y of two neighbouring groups times the
// query codes p and r, four products to each of eight sums.
#pragma once

#include <immintrin.h>

#include "src/kernels/kernels.hpp"
#include "src/kernels/thresholds.hpp"
#include "src/kernels/x86.hpp"
#include "src/kernels/ymm_exact.hpp"

namespace shortlist::kernels {
namespace {

constexpr size_t kTile = 4;

inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

inline __m256i broadcast(const int8_t* query) {
  return _mm256_set1_epi32(four_codes(query));
}

inline __m256i above(__m256i dots, int32_t threshold) {
  return _mm256_cmpgt_epi32(dots, _mm256_set1_epi32(threshold));
}

// Rare path: writes the hits among eight items.
__attribute__((noinline)) size_t write_hits(__m256i dots, int32_t threshold, uint32_t first_item,
                                            uint32_t query, Hit* hits) {
  alignas(32) int32_t values[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(values), dots);
  unsigned mask =
      static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(above(dots, threshold))));
  size_t n_hits = 0;
  for (; mask != 0; mask &= mask - 1) {
    const uint32_t item = static_cast<uint32_t>(__builtin_ctz(mask));
    hits[n_hits++] = {first_item + item, query, values[item]};
  }
  return n_hits;
}

// Dot products of up to four queries with 16 items: q0a is query 0 with items 0..7, q0b with items
// 8..15. Members instead of an array: an array is spilled to the stack in the inner loop (GCC 12).
// 4 x 16 uses all sixteen registers: eight sums, four codes, two query codes, two temporaries.
struct Sixteen {
  __m256i q0a, q0b, q1a, q1b, q2a, q2b, q3a, q3b;
};

template <size_t kQueries>
inline Sixteen dots_of_sixteen(const uint8_t* codes, size_t n_groups, const int8_t* queries) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i q0a = zero, q0b = zero, q1a = zero, q1b = zero;
  __m256i q2a = zero, q2b = zero, q3a = zero, q3b = zero;
  constexpr size_t kStep = kQueries * kGroupDims;
  size_t g = 0;
  do {  // never empty, and the compiler must know: it would copy the sums after the loop
    const __m256i xa = load(codes), xb = load(codes + 32);
    const __m256i ya = load(codes + kGroupBytes), yb = load(codes + kGroupBytes + 32);
    __m256i p = broadcast(queries), r = broadcast(queries + kStep);
    q0a = add_two(q0a, xa, ya, p, r);
    q0b = add_two(q0b, xb, yb, p, r);
    if constexpr (kQueries > 1) {
      p = broadcast(queries + 4), r = broadcast(queries + kStep + 4);
      q1a = add_two(q1a, xa, ya, p, r);
      q1b = add_two(q1b, xb, yb, p, r);
    }
    if constexpr (kQueries > 2) {
      p = broadcast(queries + 8), r = broadcast(queries + kStep + 8);
      q2a = add_two(q2a, xa, ya, p, r);
      q2b = add_two(q2b, xb, yb, p, r);
    }
    if constexpr (kQueries > 3) {
      p = broadcast(queries + 12), r = broadcast(queries + kStep + 12);
      q3a = add_two(q3a, xa, ya, p, r);
      q3b = add_two(q3b, xb, yb, p, r);
    }
    g += 2, codes += 2 * kGroupBytes, queries += 2 * kStep;
  } while (g < n_groups);
  return {q0a, q0b, q1a, q1b, q2a, q2b, q3a, q3b};
}

// One query with 64 items: memory is read strictly forward, which is what a single query waits for.
struct SixtyFour {
  __m256i a, b, c, d, e, f, g, h;
};

inline SixtyFour dots_of_block(const uint8_t* codes, size_t n_groups, const int8_t* query) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i a = zero, b = zero, c = zero, d = zero, e = zero, f = zero, g = zero, h = zero;
  size_t group = 0;
  do {
    const __m256i p = broadcast(query), r = broadcast(query + kGroupDims);
    const uint8_t* next = codes + kGroupBytes;
    a = add_two(a, load(codes), load(next), p, r);
    b = add_two(b, load(codes + 32), load(next + 32), p, r);
    c = add_two(c, load(codes + 64), load(next + 64), p, r);
    d = add_two(d, load(codes + 96), load(next + 96), p, r);
    e = add_two(e, load(codes + 128), load(next + 128), p, r);
    f = add_two(f, load(codes + 160), load(next + 160), p, r);
    g = add_two(g, load(codes + 192), load(next + 192), p, r);
    h = add_two(h, load(codes + 224), load(next + 224), p, r);
    group += 2, codes += 2 * kGroupBytes, query += 2 * kGroupDims;
  } while (group < n_groups);
  return {a, b, c, d, e, f, g, h};
}

// The low and the high halves of the bytes: codes of two neighbouring groups.
inline SixtyFour nibble_dots_of_block(const uint8_t* nibbles, size_t n_groups,
                                      const int8_t* query) {
  const __m256i zero = _mm256_setzero_si256(), low = _mm256_set1_epi8(15);
  __m256i a = zero, b = zero, c = zero, d = zero, e = zero, f = zero, g = zero, h = zero;
  const auto add = [&](__m256i& dots, const uint8_t* bytes, __m256i p, __m256i r) {
    const __m256i both = load(bytes);
    const __m256i x = _mm256_and_si256(both, low);
    const __m256i y = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    dots = add_two(dots, x, y, p, r);
  };
  size_t group = 0;
  do {
    const __m256i p = broadcast(query), r = broadcast(query + kGroupDims);
    add(a, nibbles, p, r);
    add(b, nibbles + 32, p, r);
    add(c, nibbles + 64, p, r);
    add(d, nibbles + 96, p, r);
    add(e, nibbles + 128, p, r);
    add(f, nibbles + 160, p, r);
    add(g, nibbles + 192, p, r);
    add(h, nibbles + 224, p, r);
    group += 2, nibbles += kGroupBytes, query += 2 * kGroupDims;
  } while (group < n_groups);
  return {a, b, c, d, e, f, g, h};
}

inline __m256i either(__m256i a, __m256i b) {
  return _mm256_or_si256(a, b);
}

template <size_t kQueries>
inline __m256i above_any(const Sixteen& dots, const int32_t* thresholds) {
  __m256i any = either(above(dots.q0a, thresholds[0]), above(dots.q0b, thresholds[0]));
  if constexpr (kQueries > 1) {
    const int32_t threshold = thresholds[kMaxScanBlocks];
    any = either(any, either(above(dots.q1a, threshold), above(dots.q1b, threshold)));
  }
  if constexpr (kQueries > 2) {
    const int32_t threshold = thresholds[2 * kMaxScanBlocks];
    any = either(any, either(above(dots.q2a, threshold), above(dots.q2b, threshold)));
  }
  if constexpr (kQueries > 3) {
    const int32_t threshold = thresholds[3 * kMaxScanBlocks];
    any = either(any, either(above(dots.q3a, threshold), above(dots.q3b, threshold)));
  }
  return any;
}

template <size_t kQueries>
size_t write_sixteen(Sixteen dots, const int32_t* thresholds, uint32_t first_item, Hit* hits) {
  const auto write = [&](size_t q, __m256i low, __m256i high, size_t n_hits) {
    const int32_t threshold = thresholds[q * kMaxScanBlocks];
    const uint32_t query = static_cast<uint32_t>(q);
    n_hits += write_hits(low, threshold, first_item, query, hits + n_hits);
    return n_hits + write_hits(high, threshold, first_item + 8, query, hits + n_hits);
  };
  size_t n_hits = write(0, dots.q0a, dots.q0b, 0);
  if constexpr (kQueries > 1) n_hits = write(1, dots.q1a, dots.q1b, n_hits);
  if constexpr (kQueries > 2) n_hits = write(2, dots.q2a, dots.q2b, n_hits);
  if constexpr (kQueries > 3) n_hits = write(3, dots.q3a, dots.q3b, n_hits);
  return n_hits;
}

template <size_t kQueries>
size_t scan_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
                 const int32_t* thresholds, Ahead ahead, Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, codes += n_groups * kGroupBytes) {
    fetch(ahead);
    if (is_pruned<kQueries>(thresholds + b)) continue;
    for (size_t item = 0; item < kBlockItems; item += 16) {
      const Sixteen dots = dots_of_sixteen<kQueries>(codes + item * kGroupDims, n_groups, queries);
      const __m256i any = above_any<kQueries>(dots, thresholds + b);
      if (__builtin_expect(_mm256_testz_si256(any, any), 1)) continue;
      n_hits += write_sixteen<kQueries>(
          dots, thresholds + b, static_cast<uint32_t>(b * kBlockItems + item), hits + n_hits);
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
    const SixtyFour dots = dots_of(codes);
    const __m256i low = either(either(above(dots.a, t), above(dots.b, t)),
                               either(above(dots.c, t), above(dots.d, t)));
    const __m256i high = either(either(above(dots.e, t), above(dots.f, t)),
                                either(above(dots.g, t), above(dots.h, t)));
    const __m256i any = either(low, high);
    if (__builtin_expect(_mm256_testz_si256(any, any), 1)) continue;
    const __m256i parts[8] = {dots.a, dots.b, dots.c, dots.d, dots.e, dots.f, dots.g, dots.h};
    for (size_t v = 0; v < 8; ++v) {
      n_hits +=
          write_hits(parts[v], t, static_cast<uint32_t>(b * kBlockItems + 8 * v), 0, hits + n_hits);
    }
  }
  return n_hits;
}

size_t scan_one(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* query,
                const int32_t* thresholds, Ahead ahead, Hit* hits) {
  return scan_alone([=](const uint8_t* block) { return dots_of_block(block, n_groups, query); },
                    codes, n_blocks, n_groups * kGroupBytes, thresholds, ahead, hits);
}

size_t scan_nibbles(const uint8_t* nibbles, size_t n_blocks, size_t n_groups, const int8_t* query,
                    const int32_t* thresholds, Hit* hits) {
  return scan_alone(
      [=](const uint8_t* block) { return nibble_dots_of_block(block, n_groups, query); }, nibbles,
      n_blocks, n_groups / 2 * kGroupBytes, thresholds, {}, hits);
}

size_t scan(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
            size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  constexpr decltype(&scan_one) kFunctions[kTile] = {scan_one, scan_tile<2>, scan_tile<3>,
                                                     scan_tile<4>};
  return kFunctions[n_queries - 1](codes, n_blocks, n_groups, queries, thresholds, ahead, hits);
}

// Stores the dot products of a quarter of a block, and the maxima of the quarters so far.
inline void put(int32_t* dots, int32_t* maxima, size_t quarter, __m256i low, __m256i high) {
  __m256i* out = reinterpret_cast<__m256i*>(dots + 16 * quarter);
  const __m256i most = _mm256_max_epi32(low, high);
  _mm256_storeu_si256(out, low);
  _mm256_storeu_si256(out + 1, high);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(maxima),
                      quarter == 0 ? most : _mm256_max_epi32(most, load(maxima)));
}

template <size_t kQueries>
void dots_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
               int32_t* dots, int32_t* maxima) {
  const size_t stride = n_blocks * kBlockItems, step = n_blocks * kMaximaLanes;
  for (size_t b = 0; b < n_blocks; ++b, codes += n_groups * kGroupBytes) {
    for (size_t i = 0; i < kBlockItems / 16; ++i) {
      const Sixteen sums =
          dots_of_sixteen<kQueries>(codes + i * 16 * kGroupDims, n_groups, queries);
      put(dots, maxima, i, sums.q0a, sums.q0b);
      if constexpr (kQueries > 1) put(dots + stride, maxima + step, i, sums.q1a, sums.q1b);
      if constexpr (kQueries > 2) put(dots + 2 * stride, maxima + 2 * step, i, sums.q2a, sums.q2b);
      if constexpr (kQueries > 3) put(dots + 3 * stride, maxima + 3 * step, i, sums.q3a, sums.q3b);
    }
    dots += kBlockItems, maxima += kMaximaLanes;
  }
}

void dots_one(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* query,
              int32_t* dots, int32_t* maxima) {
  for (size_t b = 0; b < n_blocks; ++b, dots += kBlockItems, maxima += kMaximaLanes) {
    const SixtyFour sums = dots_of_block(codes + b * n_groups * kGroupBytes, n_groups, query);
    put(dots, maxima, 0, sums.a, sums.b);
    put(dots, maxima, 1, sums.c, sums.d);
    put(dots, maxima, 2, sums.e, sums.f);
    put(dots, maxima, 3, sums.g, sums.h);
  }
}

void dots(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
          size_t n_queries, int32_t* dots, int32_t* maxima) {
  constexpr decltype(&dots_one) kFunctions[kTile] = {dots_one, dots_tile<2>, dots_tile<3>,
                                                     dots_tile<4>};
  kFunctions[n_queries - 1](codes, n_blocks, n_groups, queries, dots, maxima);
}

size_t pick(const int32_t* dots, const int32_t* maxima, size_t n_blocks, const int32_t* thresholds,
            Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, dots += kBlockItems, maxima += kMaximaLanes) {
    if (largest(maxima) <= thresholds[b]) continue;
    for (size_t item = 0; item < kBlockItems; item += 8) {
      const uint32_t first = static_cast<uint32_t>(b * kBlockItems + item);
      n_hits += write_hits(load(dots + item), thresholds[b], first, 0, hits + n_hits);
    }
  }
  return n_hits;
}

}  // namespace
}  // namespace shortlist::kernels
