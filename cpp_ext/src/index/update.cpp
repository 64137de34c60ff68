#include "src/index/update.hpp"

#include <algorithm>
#include <new>

#include "src/segments/repack.hpp"

namespace shortlist {
namespace {

// New rows wait in the delta, scored exactly by every search, until so many are there.
constexpr std::size_t kDeltaRows = 512;
constexpr std::size_t kDeltaFloats = std::size_t{1} << 20;  // fewer rows when they are long
constexpr std::size_t kMinDeltaRows = 16;
// A segment is rewritten when it has more tombstones than this, and than live slots.
constexpr std::size_t kMinTombstones = 256;
// Rows are numbered anew when there are more rows of removed items than this, and than items.
constexpr std::size_t kMinHoles = 1024;
// A new segment takes in the one before it when that is at most this many times larger. So every
// item is packed again O(log n) times, and there are O(log n) segments.
constexpr std::size_t kMergeRatio = 2;

std::size_t delta_capacity(std::size_t dim) {
  return std::clamp(kDeltaFloats / dim, kMinDeltaRows, kDeltaRows);
}

}  // namespace

Update::Update(IndexState& state, std::size_t n_more_ids, std::size_t n_id_bytes)
    : state_(state), next_(std::make_shared<Snapshot>(*state.current)), delta_(state.delta) {
  ++next_->generation;
  if (next_->live_ids == nullptr) {
    next_->live_ids = LiveIds::copy_of(*next_->ids, n_more_ids, n_id_bytes);
    next_->ids.reset();
  } else if (!next_->live_ids->has_room(n_more_ids, n_id_bytes)) {
    next_->live_ids = next_->live_ids->copy(n_more_ids, n_id_bytes);
  }
}

void Update::plan(std::vector<std::int64_t> stale_rows, const std::vector<std::int64_t>& rows,
                  const float* vectors) {
  stale_rows_ = std::move(stale_rows);
  std::sort(stale_rows_.begin(), stale_rows_.end());
  find_tombstones();
  const std::size_t first = first_to_merge(rows.size());
  if (first <= next_->segments.size()) {
    merge(first, rows, vectors);
  } else if (!rows.empty()) {
    append_to_delta(rows, vectors);
  }
  for (const auto& [view, slot] : tombstones_) {
    SegmentView& changed = next_->segments[view];
    if (changed.tombstones == nullptr) {
      changed.tombstones = std::make_shared<Tombstones>(changed.segment->vectors.n_rows);
    }
  }
}

void Update::commit() noexcept {
  const Uncut uncut;  // others see the tombstones of segments that stay
  for (const auto& [view, slot] : tombstones_) {
    next_->segments[view].tombstones->set(slot, next_->generation);
  }
  for (SegmentView& view : next_->segments) view.generation = next_->generation;
  state_.delta = std::move(delta_);
  state_.publish(std::move(next_));
}

void Update::find_tombstones() {
  for (const std::int64_t row : stale_rows_) {
    for (std::size_t view = next_->segments.size(); view-- > 0;) {
      const std::int64_t slot = next_->segments[view].live_slot_of(row);
      if (slot < 0) continue;
      ++next_->segments[view].n_tombstones;
      tombstones_.emplace_back(view, static_cast<std::size_t>(slot));
      break;
    }
  }
}

std::size_t Update::first_to_merge(std::size_t n_new) const {
  const std::vector<SegmentView>& segments = next_->segments;
  const std::size_t n_packed = segments.size() - (next_->has_delta() ? 1 : 0);
  const std::size_t used = next_->has_delta() ? segments.back().n_slots : 0;
  std::size_t first = segments.size() + 1;
  if (used + n_new > delta_capacity(next_->dim)) first = n_packed;
  for (std::size_t i = 0; i < std::min(n_packed, first); ++i) {
    if (segments[i].n_tombstones > std::max(kMinTombstones, segments[i].n_alive())) first = i;
  }
  if (first > segments.size()) return first;
  std::size_t n_merged = n_new;
  for (std::size_t i = first; i < segments.size(); ++i) n_merged += segments[i].n_alive();
  while (first > 0 && segments[first - 1].n_alive() <= kMergeRatio * n_merged) {
    n_merged += segments[--first].n_alive();
  }
  return first;
}

void Update::merge(std::size_t first, const std::vector<std::int64_t>& rows, const float* vectors) {
  std::vector<RowSource> sources;
  for (std::size_t i = first; i < next_->segments.size(); ++i) {
    collect_live(next_->segments[i], sources);
  }
  const auto is_stale = [this](const RowSource& source) {
    return std::binary_search(stale_rows_.begin(), stale_rows_.end(), source.row);
  };
  sources.erase(std::remove_if(sources.begin(), sources.end(), is_stale), sources.end());
  const StoredRows added = {Storage::float32, rows.size(), next_->dim, vectors};
  for (std::size_t i = 0; i < rows.size(); ++i) sources.push_back({rows[i], &added, i});
  SegmentView merged;
  merged.n_slots = sources.size();
  merged.segment = pack_sources(sources, *next_);
  next_->segments.resize(first);
  if (merged.n_slots > 0) next_->segments.push_back(std::move(merged));
  delta_.reset();
  const auto is_gone = [first](const auto& tombstone) { return tombstone.first >= first; };
  tombstones_.erase(std::remove_if(tombstones_.begin(), tombstones_.end(), is_gone),
                    tombstones_.end());
}

void Update::append_to_delta(const std::vector<std::int64_t>& rows, const float* vectors) {
  const std::size_t dim = next_->dim;
  if (delta_ == nullptr) {
    const std::size_t capacity = delta_capacity(dim);
    delta_ = std::make_shared<Segment>();
    delta_->is_delta = true;
    delta_->owned_vectors = Buffer(capacity * dim * sizeof(float));
    delta_->vectors = {Storage::float32, capacity, dim, delta_->owned_vectors.as<void>()};
    delta_->rows.resize(capacity);
    SegmentView view;
    view.segment = delta_;
    next_->segments.push_back(std::move(view));
  }
  SegmentView& view = next_->segments.back();
  std::copy_n(vectors, rows.size() * dim, delta_->owned_vectors.as<float>() + view.n_slots * dim);
  std::copy(rows.begin(), rows.end(),
            delta_->rows.begin() + static_cast<std::ptrdiff_t>(view.n_slots));
  view.n_slots += rows.size();
}

void renumber_if_sparse(IndexState& state, const Index::Commit& commit) {
  const Snapshot& snapshot = *state.current;
  const std::size_t n_holes = snapshot.n_rows - snapshot.n_items;
  if (n_holes <= std::max(kMinHoles, snapshot.n_items)) return;
  try {
    std::shared_ptr<const Snapshot> dense = compacted(snapshot);
    const Uncut uncut;
    state.delta.reset();
    state.publish(dense);
    if (commit) commit(IndexView(std::move(dense)));
  } catch (const std::bad_alloc&) {
    return;  // the update itself is done; the next one tries again
  }
}

}  // namespace shortlist
