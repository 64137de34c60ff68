#include "src/segments/segment.hpp"

namespace shortlist {

std::int64_t SegmentView::live_place_of(std::int64_t row) const {
  if (!segment->is_delta) {
    const std::int64_t place = segment->place_of(row);
    return place >= 0 && is_alive(static_cast<std::size_t>(place)) ? place : -1;
  }
  for (std::size_t place = n_places; place-- > 0;) {  // the newest of a row is the live one
    if (segment->rows[place] != row) continue;
    return is_alive(place) ? static_cast<std::int64_t>(place) : -1;
  }
  return -1;
}

}  // namespace shortlist
