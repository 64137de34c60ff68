// What is scanned of a catalogue: codes in blocks of 64 items and the numbers that bound their
// error. Immutable once packed. docs/exact_top_n.md explains layout and bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/kernels/kernels.hpp"
#include "src/system/buffer.hpp"

namespace shortlist {

constexpr std::size_t kStatsPerBlock = 6;
constexpr std::size_t kNibbleStatsPerBlock = 3;

struct PackedItems {
  std::size_t n_items = 0;
  std::size_t n_blocks = 0;
  std::size_t n_groups = 0;              // n_groups_for(dim)
  // [n_blocks][n_groups][64][4], 64-byte aligned; null where there are four-bit codes alone, which
  // are `nibbles`, and whose numbers are `stats`
  const std::uint8_t* codes = nullptr;
  const std::uint32_t* order = nullptr;  // position -> slot; null = the same
  const double* stats = nullptr;         // [6][n_blocks], in the order of kernels::BlockStats
  // Else for one query over codes beyond the second-level cache, which it waits for; null where the
  // codes are small or are the rows themselves.
  const std::uint8_t* nibbles = nullptr;  // [n_blocks][n_groups / 2][64][4]
  const double* nibble_stats = nullptr;   // [3][n_blocks]: inverse_scale, residual, code_norm
  // by slot, where the codes are the rows; else a block has one scale
  const float* scales = nullptr;
  std::shared_ptr<const void> owner;      // what keeps the arrays alive

  bool is_empty() const { return n_blocks == 0; }
  std::size_t block_bytes() const { return n_groups * kernels::kGroupBytes; }
  std::size_t slot_at(std::size_t position) const {
    return order == nullptr ? position : order[position];
  }
  kernels::BlockStats block_stats() const {
    kernels::BlockStats block;
    block.inverse_scale = stats;
    block.inverse_least = stats + n_blocks;
    block.residual = stats + 2 * n_blocks;
    block.code_norm = stats + 3 * n_blocks;
    block.norm = stats + 4 * n_blocks;
    block.half_square = stats + 5 * n_blocks;
    return block;
  }
  // Of all arrays.
  std::size_t n_bytes() const {
    const std::size_t n_stats = kStatsPerBlock + (nibble_stats != nullptr ? kNibbleStatsPerBlock : 0);
    return n_blocks * ((codes != nullptr ? block_bytes() : 0) +
                       (nibbles != nullptr ? nibble_block_bytes() : 0) + n_stats * sizeof(double)) +
           n_items * ((order != nullptr ? sizeof *order : 0) +
                      (scales != nullptr ? sizeof *scales : 0));
  }
  std::size_t nibble_block_bytes() const { return block_bytes() / 2; }
  kernels::BlockStats nibble_block_stats() const {
    kernels::BlockStats block = block_stats();
    if (codes == nullptr) return block;
    block.inverse_scale = block.inverse_least = nibble_stats;
    block.residual = nibble_stats + n_blocks;
    block.code_norm = nibble_stats + 2 * n_blocks;
    return block;
  }
};

// Beyond this dim a 32-bit dot product could overflow; such catalogues are scored row by row.
constexpr std::size_t kMaxPackedDim = 32768;

// Four-bit codes 0 .. 15 that stand alone mean the middles of sixteen equal steps.
constexpr double kShortCodeOffset = 7.5;

// Groups of four dimensions, padded to an even number: kernels take two at a time.
constexpr std::size_t n_groups_for(std::size_t dim) {
  return (dim + 7) / 8 * 2;
}

// Arrays of one PackedItems; its owner where they do not lie in a mapped file.
struct PackedMemory {
  Buffer codes, nibbles;
  std::vector<std::uint32_t> order;
  std::vector<float> scales;
  std::vector<double> stats, nibble_stats;
};

// The same items in memory of their own.
PackedItems copy_packed(const PackedItems& packed);

// Where each slot is: the inverse of `order`.
std::vector<std::uint32_t> positions_of(const PackedItems& packed);

}  // namespace shortlist
