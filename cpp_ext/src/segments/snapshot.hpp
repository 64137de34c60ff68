// What one search reads: immutable once published, shared by every search that started on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "shortlist/item_ids.hpp"
#include "shortlist/metric.hpp"
#include "shortlist/storage.hpp"
#include "src/rows/live_ids.hpp"
#include "src/segments/segment.hpp"

namespace shortlist {

constexpr std::size_t kMaxRows = (std::size_t{1} << 31) - 2;
constexpr double kNoRecall = std::numeric_limits<double>::quiet_NaN();

struct Snapshot {
  Metric metric = Metric::cosine;
  Storage storage = Storage::float32;  // of packed segments; the delta holds the same values wider
  double recall = kNoRecall;           // as built; int8 storage only
  std::size_t dim = 0;
  std::size_t n_rows = 0;              // rows 0 .. n_rows - 1, removed ones included
  std::size_t n_items = 0;             // rows that are alive
  std::uint64_t generation = 0;        // grows with every update
  std::vector<SegmentView> segments;   // the delta, if any, is the last
  std::shared_ptr<const ItemIds> ids;  // until the first update; then null and
  std::shared_ptr<LiveIds> live_ids;   // this instead

  bool has_delta() const { return !segments.empty() && segments.back().segment->is_delta; }
  ItemIds::Kind id_kind() const { return live_ids ? live_ids->kind() : ids->kind(); }
  // False for a removed row. @pre row < n_rows
  bool is_known(std::size_t row) const {
    return !live_ids || !live_ids->is_removed(row, generation);
  }
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

}  // namespace shortlist
