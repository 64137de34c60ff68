// Items that are stored and searched together, and what a snapshot sees of them (internal).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/rows/live_ids.hpp"
#include "src/rows/packed.hpp"
#include "src/rows/stored_rows.hpp"

namespace shortlist {

// Items that were packed together, or the delta: new rows that wait to be packed. `rows` maps a
// place here to the item's row in the index; empty means they are the same. A packed segment is
// immutable. The delta has room for more places than a snapshot sees; only those are written.
struct Segment {
  StoredRows vectors;                   // (n_places, dim), rounded; cosine: normalised before
  Buffer owned_vectors;                 // empty when `vectors` points into a mapped file
  std::shared_ptr<const void> mapping;  // keeps the mapped file alive
  PackedItems packed;
  std::vector<std::uint32_t> positions;  // of the rows in `packed`; int8 storage only
  std::vector<std::int64_t> rows;
  bool is_delta = false;  // rows in order of arrival, a row may repeat; else rows ascend

  // int8 storage: the rows are the codes of `packed`.
  void read_codes() {
    positions = positions_of(packed);
    vectors.codes = packed.codes;
    vectors.positions = positions.data();
    vectors.scales = packed.scales;
  }
  std::int64_t row_at(std::size_t place) const {
    return rows.empty() ? static_cast<std::int64_t>(place) : rows[place];
  }
  // The place of a row, or -1 when it is not here. @pre !is_delta
  std::int64_t place_of(std::int64_t row) const {
    if (rows.empty()) return row < static_cast<std::int64_t>(vectors.n_rows) ? row : -1;
    const auto found = std::lower_bound(rows.begin(), rows.end(), row);
    return found != rows.end() && *found == row ? found - rows.begin() : -1;
  }
};

// The generation at which each place of a segment was replaced or removed. All snapshots share it:
// a place is dead for the snapshots of that generation and later, so a writer copies nothing.
class Deaths {
 public:
  explicit Deaths(std::size_t n_places) : generations_(new std::atomic<std::uint64_t>[n_places]) {
    for (std::size_t place = 0; place < n_places; ++place) {
      generations_[place].store(kNoGeneration, std::memory_order_relaxed);
    }
  }
  void mark(std::size_t place, std::uint64_t generation) noexcept {
    generations_[place].store(generation, std::memory_order_relaxed);
  }
  bool is_dead(std::size_t place, std::uint64_t generation) const {
    return generations_[place].load(std::memory_order_relaxed) <= generation;
  }

 private:
  std::unique_ptr<std::atomic<std::uint64_t>[]> generations_;
};

// A segment as one snapshot sees it.
struct SegmentView {
  std::shared_ptr<const Segment> segment;
  std::size_t n_places = 0;  // for the delta: how many of its places this snapshot has
  std::size_t n_dead = 0;
  std::uint64_t generation = 0;    // of the snapshot
  std::shared_ptr<Deaths> deaths;  // null = all alive

  bool is_alive(std::size_t place) const {
    return deaths == nullptr || !deaths->is_dead(place, generation);
  }
  std::size_t n_alive() const { return n_places - n_dead; }
  // The place where the row is alive, or -1. Binary search; linear in the delta.
  std::int64_t live_place_of(std::int64_t row) const;
};

}  // namespace shortlist
