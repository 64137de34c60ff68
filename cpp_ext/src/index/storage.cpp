// The same items in another storage, and what each takes of memory.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shortlist/index.hpp"
#include "src/index/recall.hpp"
#include "src/rows/check_rows.hpp"
#include "src/segments/repack.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {
namespace {

constexpr std::size_t kRecallQueries = 100;
// Rows whose scores are looked at together: few enough to stay in the cache.
constexpr std::size_t kRowsAtATime = 64;

// @pre no row is that of a removed item
double measured_recall(const Snapshot& exact, const Snapshot& rounded) {
  const std::vector<std::int64_t> rows = recall_rows(exact.n_rows);
  std::vector<float> vectors(std::max(rows.size(), kRowsAtATime) * exact.dim);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    exact.copy_vector(static_cast<std::size_t>(rows[i]), vectors.data() + i * exact.dim);
  }
  RecallSample sample({vectors.data(), rows.size(), exact.dim}, rows.data(), exact.metric);
  for (std::size_t first = 0; first < exact.n_rows; first += kRowsAtATime) {
    const std::size_t n = std::min(kRowsAtATime, exact.n_rows - first);
    for (std::size_t i = 0; i < n; ++i) {
      exact.copy_vector(first + i, vectors.data() + i * exact.dim);
    }
    sample.add({vectors.data(), n, exact.dim}, first);
  }
  return sample.recall_of(rounded);
}

}  // namespace

std::vector<std::int64_t> recall_rows(std::size_t n_items) {
  const std::size_t n = std::min(n_items, kRecallQueries);
  const double step = n > 1 ? static_cast<double>(n_items - 1) / static_cast<double>(n - 1) : 0.0;
  std::vector<std::int64_t> rows(n);
  for (std::size_t i = 0; i < n; ++i) {
    rows[i] = static_cast<std::int64_t>(static_cast<double>(i) * step);
  }
  if (n > 1) rows.back() = static_cast<std::int64_t>(n_items - 1);
  return rows;
}

Index IndexView::with_storage(Storage storage) const {
  const Snapshot& from = *snapshot_;
  if (row_storage(from.storage) != Storage::float32 && storage != from.storage) {
    throw std::invalid_argument(std::string("storage: got ") + name_of(storage) +
                                " for an index of storage " + name_of(from.storage) +
                                "; the numbers before rounding are gone; expected float32, disk8, "
                                "disk6 or disk4 to start from: build the index again");
  }
  check_dim(from.dim, storage);
  Snapshot wanted = from;
  wanted.storage = storage;
  std::shared_ptr<Snapshot> made = compacted(wanted);
  made->generation = 0;
  for (SegmentView& view : made->segments) view.generation = 0;
  if (is_approximate(storage) && storage != from.storage) {
    const bool is_dense = from.live_ids == nullptr && from.segments.size() == 1;
    made->recall =
        is_dense ? measured_recall(from, *made) : measured_recall(*compacted(from), *made);
  }
  return Index(std::move(made));
}

IndexMemory IndexView::memory() const {
  IndexMemory memory;
  for (const SegmentView& view : snapshot_->segments) {
    const Segment& segment = *view.segment;
    const std::size_t codes =
        segment.packed.n_bytes() + segment.positions.size() * sizeof(std::uint32_t);
    const std::size_t rows =
        segment.vectors.n_rows * segment.vectors.dim * bytes_per_number(segment.vectors.storage);
    if (segment.vectors.file != nullptr) {
      memory.rows_on_disk += rows;
    } else {
      (segment.has_mapped_rows ? memory.mapped_rows : memory.rows) += rows;
    }
    (segment.has_mapped_codes ? memory.mapped_codes : memory.codes) += codes;
  }
  memory.ids = snapshot_->live_ids ? snapshot_->live_ids->n_bytes() : snapshot_->ids->n_bytes();
  return memory;
}

}  // namespace shortlist
