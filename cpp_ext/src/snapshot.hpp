// What one search reads: immutable once published, shared by every search that started on it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "shortlist/index.hpp"
#include "src/live_ids.hpp"
#include "src/packed.hpp"
#include "src/stored_rows.hpp"

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

// The version at which each place of a segment was replaced or removed. All snapshots share it:
// a place is dead for the snapshots of that version and later, so a writer copies nothing.
class Deaths {
 public:
  explicit Deaths(std::size_t n_places) : versions_(new std::atomic<std::uint64_t>[n_places]) {
    for (std::size_t place = 0; place < n_places; ++place) {
      versions_[place].store(kNoVersion, std::memory_order_relaxed);
    }
  }
  void mark(std::size_t place, std::uint64_t version) noexcept {
    versions_[place].store(version, std::memory_order_relaxed);
  }
  bool is_dead(std::size_t place, std::uint64_t version) const {
    return versions_[place].load(std::memory_order_relaxed) <= version;
  }

 private:
  std::unique_ptr<std::atomic<std::uint64_t>[]> versions_;
};

// A segment as one snapshot sees it.
struct SegmentView {
  std::shared_ptr<const Segment> segment;
  std::size_t n_places = 0;  // for the delta: how many of its places this snapshot has
  std::size_t n_dead = 0;
  std::uint64_t version = 0;       // of the snapshot
  std::shared_ptr<Deaths> deaths;  // null = all alive

  bool is_alive(std::size_t place) const {
    return deaths == nullptr || !deaths->is_dead(place, version);
  }
  std::size_t n_alive() const { return n_places - n_dead; }
  // The place where the row is alive, or -1. Binary search; linear in the delta.
  std::int64_t live_place_of(std::int64_t row) const;
};

constexpr double kNoRecall = std::numeric_limits<double>::quiet_NaN();

struct Snapshot {
  Metric metric = Metric::cosine;
  Storage storage = Storage::float32;  // of packed segments; the delta holds the same values wider
  double recall = kNoRecall;           // as built; int8 storage only
  std::size_t dim = 0;
  std::size_t n_rows = 0;              // rows 0 .. n_rows - 1, removed ones included
  std::size_t n_items = 0;             // rows that are alive
  std::uint64_t version = 0;           // grows with every update
  std::vector<SegmentView> segments;   // the delta, if any, is the last
  std::shared_ptr<const ItemIds> ids;  // until the first update; then null and
  std::shared_ptr<LiveIds> live_ids;   // this instead

  bool has_delta() const { return !segments.empty() && segments.back().segment->is_delta; }
  ItemIds::Kind id_kind() const { return live_ids ? live_ids->kind() : ids->kind(); }
  // False for a removed row. @pre row < n_rows
  bool is_known(std::size_t row) const { return !live_ids || !live_ids->is_removed(row, version); }
  // -1 when the id is unknown, removed, or of the other kind.
  std::int64_t row_of(std::int64_t id) const;
  std::int64_t row_of(std::string_view id) const;
  void rows_of(const std::int64_t* ids, std::size_t n, std::int64_t* rows) const;
  // @pre is_known(row)
  std::int64_t int64_at(std::size_t row) const;
  std::string_view string_at(std::size_t row) const;
  // False for a removed row; else its stored vector goes to out (dim). @pre row < n_rows
  bool copy_vector(std::size_t row, float* out) const;
};

// An item on its way into a new segment: place `place` of `vectors`, as stored.
struct RowSource {
  std::int64_t row;
  const StoredRows* vectors;
  std::size_t place;
};
// Appends the live items of a view, which must outlive them.
void collect_live(const SegmentView& view, std::vector<RowSource>& out);
// A new segment of the snapshot's kind, rows ascending. @pre rows are unique
std::shared_ptr<const Segment> pack_sources(std::vector<RowSource>& sources,
                                            const Snapshot& snapshot);
// The same items in the same order in one segment, rows without holes.
std::shared_ptr<Snapshot> compacted(const Snapshot& snapshot);

// Sum of squares in float64 in one fixed order.
double squared_norm(const float* row, std::size_t dim);
// Normalises one row: float64 norm, one rounding per element; a zero row stays zero.
void normalize_row(const float* row, std::size_t dim, float* out);
// Index of the first row with a NaN or an infinity, or n_rows.
std::size_t first_bad_row(const MatrixView& rows);
[[noreturn]] void throw_not_finite(std::size_t row);
[[noreturn]] void throw_out_of_range(std::size_t row, Storage storage);

}  // namespace shortlist
