// Live items of segments, packed into a new one (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/segments/segment.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

// An item on its way into a new segment: slot `slot` of `vectors`, as stored.
struct RowSource {
  std::int64_t row;
  const StoredRows* vectors;
  std::size_t slot;
};
// Appends the live items of a view, which must outlive them.
void collect_live(const SegmentView& view, std::vector<RowSource>& out);
// A new segment of the snapshot's kind, rows ascending. @pre rows are unique
std::shared_ptr<const Segment> pack_sources(std::vector<RowSource>& sources,
                                            const Snapshot& snapshot);
// The same items in the same order in one segment, rows without holes.
std::shared_ptr<Snapshot> compacted(const Snapshot& snapshot);
// The items of rows first .. end - 1 alone, as stored; the row `first` becomes 0.
// @pre first <= end <= n_rows
std::shared_ptr<Snapshot> sliced(const Snapshot& snapshot, std::size_t first, std::size_t end);

}  // namespace shortlist
