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
#include "src/rows/row_file.hpp"
#include "src/rows/stored_rows.hpp"

namespace shortlist {

// Items that were packed together, or the delta: new rows that wait to be packed. `rows` maps a
// slot here to the item's row in the index; empty means that they count on from `first_row`. A
// packed segment is immutable. The delta has room for more slots than a snapshot sees; only those
// are written.
struct Segment {
  StoredRows vectors;                       // (n_slots, dim), rounded; cosine: normalised before
  Buffer owned_vectors;                     // empty when `vectors` points into a mapped file, or to
  std::shared_ptr<const RowFile> row_file;  // this one
  std::shared_ptr<const void> mapping;      // keeps the mapped file alive
  PackedItems packed;
  std::vector<std::uint32_t> positions;  // of the rows in `packed`, where its codes are the rows
  std::vector<std::int64_t> rows;
  std::int64_t first_row = 0;
  bool has_mapped_rows = false, has_mapped_codes = false;  // in the file of `mapping`
  bool is_delta = false;  // rows in order of arrival, a row may repeat; else rows ascend

  // Storages that keep no rows: the codes of `packed` are the rows.
  void read_codes() {
    positions = positions_of(packed);
    vectors.codes = packed.codes != nullptr ? packed.codes : packed.nibbles;
    vectors.positions = positions.data();
    vectors.scales = packed.scales;
  }
  std::int64_t row_at(std::size_t slot) const {
    return rows.empty() ? first_row + static_cast<std::int64_t>(slot) : rows[slot];
  }
  // The slot of a row, or -1 when it is not here. @pre !is_delta
  std::int64_t slot_of(std::int64_t row) const {
    if (rows.empty()) {
      const std::int64_t slot = row - first_row;
      return slot >= 0 && slot < static_cast<std::int64_t>(vectors.n_rows) ? slot : -1;
    }
    const auto found = std::lower_bound(rows.begin(), rows.end(), row);
    return found != rows.end() && *found == row ? found - rows.begin() : -1;
  }
};

// The generation at which each slot of a segment was replaced or removed. All snapshots share it:
// a slot has its tombstone for snapshots of that generation and later, so a writer copies nothing.
class Tombstones {
 public:
  explicit Tombstones(std::size_t n_slots) : generations_(new std::atomic<std::uint64_t>[n_slots]) {
    for (std::size_t slot = 0; slot < n_slots; ++slot) {
      generations_[slot].store(kNoGeneration, std::memory_order_relaxed);
    }
  }
  void set(std::size_t slot, std::uint64_t generation) noexcept {
    generations_[slot].store(generation, std::memory_order_relaxed);
  }
  bool is_set(std::size_t slot, std::uint64_t generation) const {
    return generations_[slot].load(std::memory_order_relaxed) <= generation;
  }

 private:
  std::unique_ptr<std::atomic<std::uint64_t>[]> generations_;
};

// A segment as one snapshot sees it.
struct SegmentView {
  std::shared_ptr<const Segment> segment;
  std::size_t n_slots = 0;  // for the delta: how many of its slots this snapshot has
  std::size_t n_tombstones = 0;
  std::uint64_t generation = 0;            // of the snapshot
  std::shared_ptr<Tombstones> tombstones;  // null = all alive

  bool is_alive(std::size_t slot) const {
    return tombstones == nullptr || !tombstones->is_set(slot, generation);
  }
  std::size_t n_alive() const { return n_slots - n_tombstones; }
  // The slot where the row is alive, or -1. Binary search; linear in the delta.
  std::int64_t live_slot_of(std::int64_t row) const;
};

}  // namespace shortlist
