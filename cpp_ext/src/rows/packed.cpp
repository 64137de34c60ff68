#include "src/rows/packed.hpp"

#include <atomic>
#include <cstring>
#include <utility>

#include "shortlist/nibbles.hpp"

namespace shortlist {
namespace {

std::atomic<std::size_t> min_code_bytes{8 * 1024 * 1024};

}  // namespace

std::size_t min_code_bytes_for_nibbles() {
  return min_code_bytes;
}

void set_min_code_bytes_for_nibbles(std::size_t n_bytes) {
  min_code_bytes = n_bytes;
}

PackedItems copy_packed(const PackedItems& packed) {
  if (packed.is_empty()) return packed;
  PackedItems copy = packed;
  auto memory = std::make_shared<PackedMemory>();
  const std::size_t n_bytes = packed.n_blocks * packed.block_bytes();
  if (packed.codes != nullptr) {
    memory->codes = Buffer(n_bytes);
    std::memcpy(memory->codes.as<void>(), packed.codes, n_bytes);
    copy.codes = memory->codes.as<std::uint8_t>();
  }
  memory->stats.assign(packed.stats, packed.stats + kStatsPerBlock * packed.n_blocks);
  if (packed.order != nullptr) {
    memory->order.assign(packed.order, packed.order + packed.n_items);
    copy.order = memory->order.data();
  }
  if (packed.scales != nullptr) {
    memory->scales.assign(packed.scales, packed.scales + packed.n_items);
    copy.scales = memory->scales.data();
  }
  if (packed.nibbles != nullptr) {
    memory->nibbles = Buffer(n_bytes / 2);
    std::memcpy(memory->nibbles.as<void>(), packed.nibbles, n_bytes / 2);
    copy.nibbles = memory->nibbles.as<std::uint8_t>();
  }
  if (packed.quarters != nullptr) {
    const std::size_t n_quarter_bytes = packed.n_blocks * packed.quarter_block_bytes();
    memory->quarters = Buffer(n_quarter_bytes);
    std::memcpy(memory->quarters.as<void>(), packed.quarters, n_quarter_bytes);
    copy.quarters = memory->quarters.as<std::uint8_t>();
  }
  if (packed.nibble_stats != nullptr) {
    memory->nibble_stats.assign(packed.nibble_stats,
                                packed.nibble_stats + kNibbleStatsPerBlock * packed.n_blocks);
    copy.nibble_stats = memory->nibble_stats.data();
  }
  copy.stats = memory->stats.data();
  copy.owner = std::move(memory);
  return copy;
}

std::vector<std::uint32_t> positions_of(const PackedItems& packed) {
  std::vector<std::uint32_t> positions(packed.n_items);
  for (std::size_t i = 0; i < packed.n_items; ++i) {
    positions[packed.slot_at(i)] = static_cast<std::uint32_t>(i);
  }
  return positions;
}

}  // namespace shortlist
