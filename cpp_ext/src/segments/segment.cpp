#include "src/segments/segment.hpp"

namespace shortlist {

std::int64_t SegmentView::live_slot_of(std::int64_t row) const {
  if (!segment->is_delta) {
    const std::int64_t slot = segment->slot_of(row);
    return slot >= 0 && is_alive(static_cast<std::size_t>(slot)) ? slot : -1;
  }
  for (std::size_t slot = n_slots; slot-- > 0;) {  // the newest of a row is the live one
    if (segment->rows[slot] != row) continue;
    return is_alive(slot) ? static_cast<std::int64_t>(slot) : -1;
  }
  return -1;
}

}  // namespace shortlist
