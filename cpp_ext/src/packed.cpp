#include "packed.hpp"

#include <cstring>
#include <utility>

namespace shortlist {

PackedItems copy_packed(const PackedItems& packed) {
  if (packed.is_empty()) return packed;
  PackedItems copy = packed;
  auto memory = std::make_shared<PackedMemory>();
  const std::size_t n_bytes = packed.n_blocks * packed.block_bytes();
  memory->codes = Buffer(n_bytes);
  std::memcpy(memory->codes.as<void>(), packed.codes, n_bytes);
  memory->stats.assign(packed.stats, packed.stats + kStatsPerBlock * packed.n_blocks);
  if (packed.order != nullptr) {
    memory->order.assign(packed.order, packed.order + packed.n_items);
    copy.order = memory->order.data();
  }
  if (packed.scales != nullptr) {
    memory->scales.assign(packed.scales, packed.scales + packed.n_items);
    copy.scales = memory->scales.data();
  }
  copy.codes = memory->codes.as<std::uint8_t>();
  copy.stats = memory->stats.data();
  copy.owner = std::move(memory);
  return copy;
}

std::vector<std::uint32_t> positions_of(const PackedItems& packed) {
  std::vector<std::uint32_t> positions(packed.n_items);
  for (std::size_t i = 0; i < packed.n_items; ++i) {
    positions[packed.row_at(i)] = static_cast<std::uint32_t>(i);
  }
  return positions;
}

}  // namespace shortlist
