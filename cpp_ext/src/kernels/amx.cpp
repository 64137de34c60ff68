// AMX: tiles of 16 rows x 64 bytes, and the products of two of them. AVX-512 for everything else.
// Compiled with these flags; called only after the checks in simd.cpp.
#include <immintrin.h>

#include "src/kernels/avx512_row.hpp"
#include "src/kernels/fetch.hpp"
#include "src/kernels/host_tiles.hpp"
#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {
namespace {

constexpr size_t kTileRows = 16;
constexpr size_t kTile = 2 * kTileRows;
// Measured with benchmarks/top_n.py --simd amx-int8 against --simd avx512 at dims 32 to 768 and
// batches 1 to 32.
constexpr size_t kLeastQueries = 3;
constexpr size_t kLeastProducts = 100;

// A product takes up to 16 groups. Where a block has more, it takes equal steps, the last of which
// begins early enough to end with the block; the queries have zeros for what it repeats.
struct Steps {
  explicit Steps(size_t n_groups)
      : n((n_groups + kTileRows - 1) / kTileRows),
        size((n_groups + n - 1) / n),
        last(n_groups - size) {}
  size_t first(size_t step) const { return step * size < last ? step * size : last; }
  size_t row_bytes() const { return size * kGroupDims; }

  size_t n, size, last;
};

// packed[step][query][dimension of the step]
size_t packed_bytes(size_t n_groups, size_t n_queries) {
  const Steps steps(n_groups);
  return steps.n * n_queries * steps.row_bytes();
}

void pack(const int8_t* const* queries, size_t n_queries, size_t n_groups, int8_t* out) {
  const Steps steps(n_groups);
  for (size_t step = 0; step < steps.n; ++step) {
    const size_t first = steps.first(step) * kGroupDims;
    const size_t n_repeated = step * steps.row_bytes() - first;
    for (size_t q = 0; q < n_queries; ++q, out += steps.row_bytes()) {
      __builtin_memcpy(out, queries[q] + first, steps.row_bytes());
      __builtin_memset(out, 0, n_repeated);
    }
  }
}

// Tiles 0 to 3 are sums: two of 16 queries by two of 16 items. Tiles 4 and 5 are queries, 6 and 7
// items.
TileConfig config_for(const Steps& steps, size_t n_queries) {
  const size_t n_first = n_queries < kTileRows ? n_queries : kTileRows;
  const size_t n_second = n_queries - n_first;
  const auto row_bytes = static_cast<uint16_t>(steps.row_bytes());
  TileConfig config{};
  config.palette = 1;
  const auto set = [&](size_t tile, size_t n_rows, uint16_t n_bytes) {
    if (n_rows == 0) return;
    config.rows[tile] = static_cast<uint8_t>(n_rows);
    config.row_bytes[tile] = n_bytes;
  };
  set(0, n_first, 64), set(1, n_first, 64), set(2, n_second, 64), set(3, n_second, 64);
  set(4, n_first, row_bytes), set(5, n_second, row_bytes);
  set(6, steps.size, 64), set(7, steps.size, 64);
  return config;
}

// Brings what one product needs of a block from the second-level cache into the first: products are
// as fast as that only if they need not wait.
inline void fetch_items(const uint8_t* items, size_t n_groups) {
  for (size_t g = 0; g < n_groups; ++g, items += kGroupBytes) {
    __builtin_prefetch(items);
    __builtin_prefetch(items + kCacheLine);
  }
}

// sums[query][item] of one block. `next` is the block after it. Where a block is one step, the
// queries are in their tiles already.
template <bool kIsWide, bool kIsOneStep>
inline void multiply(const uint8_t* codes, const uint8_t* next, const Steps& steps,
                     const int8_t* queries, size_t n_queries, int32_t* sums) {
  constexpr size_t kHalf = 2 * kTileRows;
  const size_t row_bytes = steps.row_bytes();
  for (size_t half = 0; half < kBlockItems; half += kHalf) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kIsWide) {
      _tile_zero(2);
      _tile_zero(3);
    }
    const int8_t* from = queries;
    for (size_t step = 0; step < steps.n; ++step, from += n_queries * row_bytes) {
      const uint8_t* items = codes + steps.first(step) * kGroupBytes + half * kGroupDims;
      const uint8_t* following =
          step + 1 < steps.n ? codes + steps.first(step + 1) * kGroupBytes + half * kGroupDims
          : half == 0        ? codes + kHalf * kGroupDims
                             : next;
      _tile_loadd(6, items, kGroupBytes);
      _tile_loadd(7, items + kTileRows * kGroupDims, kGroupBytes);
      if constexpr (!kIsOneStep) _tile_loadd(4, from, row_bytes);
      fetch_items(following, steps.size);
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      if constexpr (kIsWide) {
        if constexpr (!kIsOneStep) _tile_loadd(5, from + kTileRows * row_bytes, row_bytes);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
      }
    }
    constexpr size_t kStride = kBlockItems * sizeof(int32_t);
    _tile_stored(0, sums + half, kStride);
    _tile_stored(1, sums + half + kTileRows, kStride);
    if constexpr (kIsWide) {
      _tile_stored(2, sums + kTileRows * kBlockItems + half, kStride);
      _tile_stored(3, sums + kTileRows * kBlockItems + half + kTileRows, kStride);
    }
  }
}

bool is_pruned(const int32_t* thresholds, size_t n_queries) {
  for (size_t q = 0; q < n_queries; ++q) {
    if (thresholds[q * kMaxScanBlocks] != kPruned) return false;
  }
  return true;
}

inline size_t hits_of_block(const int32_t* sums, size_t n_queries, const int32_t* thresholds,
                            uint32_t first_item, Hit* hits) {
  size_t n_hits = 0;
  for (size_t q = 0; q < n_queries; ++q, sums += kBlockItems, thresholds += kMaxScanBlocks) {
    const Row row = load_row(sums);
    if (__builtin_expect(above(row, *thresholds) == 0, 1)) continue;
    n_hits +=
        write_row(sums, row, *thresholds, static_cast<uint32_t>(q), first_item, hits + n_hits);
  }
  return n_hits;
}

// The sums of a block are compared while the next block is multiplied.
template <bool kIsWide, bool kIsOneStep>
size_t scan_tile(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
                 size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  const Steps steps(n_groups);
  const HostTiles host(config_for(steps, n_queries));
  if constexpr (kIsOneStep) {
    _tile_loadd(4, queries, steps.row_bytes());
    if constexpr (kIsWide) {
      _tile_loadd(5, queries + kTileRows * steps.row_bytes(), steps.row_bytes());
    }
  }
  alignas(64) int32_t sums[2][kTile * kBlockItems];
  size_t n_hits = 0, n_done = 0, before = 0;
  const size_t block_bytes = n_groups * kGroupBytes;
  for (size_t b = 0; b < n_blocks; ++b, codes += block_bytes) {
    fetch(ahead);
    if (is_pruned(thresholds + b, n_queries)) continue;
    multiply<kIsWide, kIsOneStep>(codes, codes + block_bytes, steps, queries, n_queries,
                                  sums[n_done % 2]);
    if (n_done++ > 0) {
      n_hits += hits_of_block(sums[n_done % 2], n_queries, thresholds + before,
                              static_cast<uint32_t>(before * kBlockItems), hits + n_hits);
    }
    before = b;
  }
  if (n_done > 0) {
    n_hits += hits_of_block(sums[(n_done + 1) % 2], n_queries, thresholds + before,
                            static_cast<uint32_t>(before * kBlockItems), hits + n_hits);
  }
  return n_hits;
}

size_t scan(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
            size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  const bool is_wide = n_queries > kTileRows, is_one_step = n_groups <= kTileRows;
  const auto tile = is_one_step ? (is_wide ? scan_tile<true, true> : scan_tile<false, true>)
                                : (is_wide ? scan_tile<true, false> : scan_tile<false, false>);
  return tile(codes, n_blocks, n_groups, queries, n_queries, thresholds, ahead, hits);
}

}  // namespace

const Table* amx_table() {
  static constexpr ManyQueries kMany = {kTile,        kLeastQueries, kLeastProducts,
                                        packed_bytes, pack,          scan};
  static const Table kTable = [] {
    Table table = *avx512_table();
    table.name = "amx-int8";
    table.many = &kMany;
    return table;
  }();
  return &kTable;
}

}  // namespace shortlist::kernels
