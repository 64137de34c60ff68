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

// A byte of quarters belongs to four groups: bits 2i, 2i + 1 of quad q to group 4q + i.
constexpr std::size_t quads_for(std::size_t n_groups) {
  return (n_groups + 3) / 4;
}

struct PackedItems {
  std::size_t n_items = 0;
  std::size_t n_blocks = 0;
  std::size_t n_groups = 0;  // n_groups_for(dim)
  // [n_blocks][n_groups][64][4], 64-byte aligned; null where there are short codes alone, of four
  // bits, which are `nibbles`, or of six, the low two of which are `quarters`. Their numbers are
  // `stats`, and nibble_stats those of the high four of six.
  const std::uint8_t* codes = nullptr;
  const std::uint8_t* quarters = nullptr;  // [n_blocks][quads_for(n_groups)][64][4]
  const std::uint32_t* order = nullptr;    // position -> slot; null = the same
  const double* stats = nullptr;           // [6][n_blocks], in the order of kernels::BlockStats
  // Else for one query over codes beyond the second-level cache, which it waits for; null where the
  // codes are small or are the rows themselves.
  const std::uint8_t* nibbles = nullptr;  // [n_blocks][n_groups / 2][64][4]
  const double* nibble_stats = nullptr;   // [3][n_blocks]: inverse_scale, residual, code_norm
  // by slot, where the codes are the rows; else a block has one scale
  const float* scales = nullptr;
  std::shared_ptr<const void> owner;  // what keeps the arrays alive

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
    const std::size_t n_stats =
        kStatsPerBlock + (nibble_stats != nullptr ? kNibbleStatsPerBlock : 0);
    return n_blocks *
               ((codes != nullptr ? block_bytes() : 0) +
                (nibbles != nullptr ? nibble_block_bytes() : 0) +
                (quarters != nullptr ? quarter_block_bytes() : 0) + n_stats * sizeof(double)) +
           n_items *
               ((order != nullptr ? sizeof *order : 0) + (scales != nullptr ? sizeof *scales : 0));
  }
  std::size_t nibble_block_bytes() const { return block_bytes() / 2; }
  std::size_t quarter_block_bytes() const { return quads_for(n_groups) * kernels::kGroupBytes; }
  kernels::BlockStats nibble_block_stats() const {
    kernels::BlockStats block = block_stats();
    if (nibble_stats == nullptr) return block;
    block.inverse_scale = block.inverse_least = nibble_stats;
    block.residual = nibble_stats + n_blocks;
    block.code_norm = nibble_stats + 2 * n_blocks;
    return block;
  }
};

// Beyond this dim a 32-bit dot product could overflow; such catalogues are scored row by row.
constexpr std::size_t kMaxPackedDim = 32768;

// Four-bit codes 0 .. 15 that stand alone mean the middles of sixteen equal steps, and six-bit
// codes those of 64.
constexpr double kShortCodeOffset = 7.5;
constexpr double kSixBitOffset = 31.5;

// Groups of four dimensions, padded to an even number: kernels take two at a time.
constexpr std::size_t n_groups_for(std::size_t dim) {
  return (dim + 7) / 8 * 2;
}

// Arrays of one PackedItems; its owner where they do not lie in a mapped file.
struct PackedMemory {
  Buffer codes, nibbles, quarters;
  std::vector<std::uint32_t> order;
  std::vector<float> scales;
  std::vector<double> stats, nibble_stats;
};

// The same items in memory of their own.
PackedItems copy_packed(const PackedItems& packed);

// Where each slot is: the inverse of `order`.
std::vector<std::uint32_t> positions_of(const PackedItems& packed);

}  // namespace shortlist
