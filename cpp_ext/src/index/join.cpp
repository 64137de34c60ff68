// Parts of an index: a range of its rows, and one index of several.
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shortlist/index.hpp"
#include "src/segments/repack.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {
namespace {

const char* name_of(ItemIds::Kind kind) {
  return kind == ItemIds::Kind::string  ? "strings"
         : kind == ItemIds::Kind::int64 ? "int64"
                                        : "row numbers";
}

const char* name_of(Metric metric) {
  return metric == Metric::cosine ? "cosine" : metric == Metric::dot ? "dot" : "euclidean";
}

void check_like(const Snapshot& first, const Snapshot& part, std::size_t number) {
  const auto expect = [number](bool is_right, const std::string& what, const std::string& got,
                               const std::string& expected) {
    if (is_right) return;
    throw std::invalid_argument("parts: part " + std::to_string(number) + " has " + what + got +
                                "; part 0 has " + expected + "; build all parts alike");
  };
  expect(part.dim == first.dim, "dim ", std::to_string(part.dim), std::to_string(first.dim));
  expect(part.metric == first.metric, "the metric ", name_of(part.metric), name_of(first.metric));
  expect(part.storage == first.storage, "the storage ", name_of(part.storage),
         name_of(first.storage));
  expect(part.id_kind() == first.id_kind(), "ids that are ", name_of(part.id_kind()),
         name_of(first.id_kind()));
}

std::shared_ptr<const ItemIds> joined_ids(const std::vector<std::shared_ptr<const Snapshot>>& parts,
                                          std::size_t n_rows) {
  const ItemIds::Kind kind = parts.front()->id_kind();
  if (kind == ItemIds::Kind::row_numbers) {
    return std::make_shared<ItemIds>(ItemIds::row_numbers(n_rows));
  }
  if (kind == ItemIds::Kind::int64) {
    std::vector<std::int64_t> values;
    values.reserve(n_rows);
    for (const auto& part : parts) {
      values.insert(values.end(), part->ids->values().begin(), part->ids->values().end());
    }
    return std::make_shared<ItemIds>(ItemIds::from_int64(std::move(values)));
  }
  std::string bytes;
  std::vector<std::int64_t> offsets = {0};
  offsets.reserve(n_rows + 1);
  for (const auto& part : parts) {
    const auto before = static_cast<std::int64_t>(bytes.size());
    const std::vector<std::int64_t>& own = part->ids->offsets();
    for (std::size_t row = 1; row < own.size(); ++row) offsets.push_back(before + own[row]);
    bytes += part->ids->bytes();
  }
  return std::make_shared<ItemIds>(ItemIds::from_strings(std::move(bytes), std::move(offsets)));
}

// The same items, whose rows count from `first_row`.
std::shared_ptr<const Segment> moved(const std::shared_ptr<const Segment>& from,
                                     std::size_t first_row) {
  auto segment = std::make_shared<Segment>();
  segment->vectors = from->vectors;
  segment->packed = from->packed;
  segment->has_mapped_rows = from->has_mapped_rows;
  segment->has_mapped_codes = from->has_mapped_codes;
  segment->rows = from->rows;
  segment->first_row = from->first_row + static_cast<std::int64_t>(first_row);
  for (std::int64_t& row : segment->rows) row += static_cast<std::int64_t>(first_row);
  segment->row_file = from->row_file;
  segment->mapping = from;  // its memory, and what the views point into
  return segment;
}

}  // namespace

Index IndexView::slice(std::size_t first, std::size_t end) const {
  return Index(sliced(*snapshot_, first, end));
}

Index Index::join(const std::vector<IndexView>& parts) {
  if (parts.empty()) throw std::invalid_argument("parts: got none; expected one index or more");
  std::vector<std::shared_ptr<const Snapshot>> dense;
  auto joined = std::make_shared<Snapshot>();
  for (const IndexView& part : parts) {
    const std::shared_ptr<const Snapshot>& own = part.snapshot_;
    check_like(*parts.front().snapshot_, *own, dense.size());
    dense.push_back(own->live_ids == nullptr ? own : compacted(*own));
    for (const SegmentView& view : dense.back()->segments) {
      if (view.n_slots == 0) continue;
      SegmentView next;
      next.segment = moved(view.segment, joined->n_rows);
      next.n_slots = view.n_slots;
      joined->segments.push_back(std::move(next));
    }
    joined->n_rows += dense.back()->n_rows;
  }
  if (joined->n_rows > kMaxRows) {
    throw std::invalid_argument("parts: got " + std::to_string(joined->n_rows) +
                                " rows in all; an index holds at most " + std::to_string(kMaxRows) +
                                "; search the parts apart and merge their answers");
  }
  joined->metric = dense.front()->metric;
  joined->storage = dense.front()->storage;
  joined->dim = dense.front()->dim;
  joined->n_items = joined->n_rows;
  joined->ids = joined_ids(dense, joined->n_rows);
  return Index(std::move(joined));
}

}  // namespace shortlist
