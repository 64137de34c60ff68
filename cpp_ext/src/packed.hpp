// The 8-bit side of a catalogue: codes in blocks of 64 items and the numbers that bound their
// error. Immutable after pack_items(). docs/exact_top_n.md explains layout and bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.hpp"
#include "shortlist/matrix_view.hpp"
#include "shortlist/metric.hpp"

namespace shortlist {

struct PackedItems {
  std::size_t n_items = 0;
  std::size_t n_blocks = 0;
  std::size_t n_groups = 0;              // n_groups_for(dim)
  const std::uint8_t* codes = nullptr;   // [n_blocks][n_groups][64][4], 64-byte aligned
  const std::uint32_t* order = nullptr;  // position -> row; null = the same
  const double* stats = nullptr;         // [5][n_blocks], in the order of kernels::BlockStats
  std::shared_ptr<const void> owner;     // what keeps the three arrays alive

  bool is_empty() const { return n_blocks == 0; }
  std::size_t block_bytes() const { return n_groups * kernels::kGroupBytes; }
  std::size_t row_at(std::size_t position) const {
    return order == nullptr ? position : order[position];
  }
  kernels::BlockStats block_stats() const {
    return {stats, stats + n_blocks, stats + 2 * n_blocks, stats + 3 * n_blocks,
            stats + 4 * n_blocks};
  }
};

// Beyond this dim a 32-bit dot product could overflow; such catalogues are scored row by row.
constexpr std::size_t kMaxPackedDim = 32768;
constexpr std::size_t kStatsPerBlock = 5;

// Groups of four dimensions, padded to an even number: kernels take two at a time.
constexpr std::size_t n_groups_for(std::size_t dim) {
  return (dim + 7) / 8 * 2;
}

// Empty for a catalogue that is not worth scanning (no rows, or dim > kMaxPackedDim). Rows are
// finite. For dot and euclidean the items are ordered by norm, largest first, so that items of a
// block share a scale and whole blocks can be proved hopeless.
PackedItems pack_items(const MatrixView& rows, Metric metric);

// The same items in memory of their own.
PackedItems copy_packed(const PackedItems& packed);

}  // namespace shortlist
