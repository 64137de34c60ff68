// The writer's side of an index (internal): what its handles share, and one update of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "shortlist/index.hpp"
#include "src/segments/segment.hpp"
#include "src/segments/snapshot.hpp"
#include "src/system/forks.hpp"

namespace shortlist {

// What all handles of one index share.
struct IndexState {
  std::shared_ptr<const Snapshot> current;  // for readers: now() and publish()
  ForkMutex writers;                        // guards all below, and who may publish
  std::shared_ptr<Segment> delta;           // the delta of `current`, if it has one

  std::shared_ptr<const Snapshot> now() const {
    const Uncut uncut;  // the standard library's own locks
    return std::atomic_load(&current);
  }
  void publish(std::shared_ptr<const Snapshot> next) {
    const Uncut uncut;
    std::atomic_store(&current, std::move(next));
  }
};

// One update: first everything that can fail, on the side; then commit, which cannot.
class Update {
 public:
  Update(IndexState& state, std::size_t n_more_ids, std::size_t n_id_bytes);

  // The live slots of `stale_rows` get tombstones; vector i, rounded as stored, becomes the item of
  // rows[i].
  void plan(std::vector<std::int64_t> stale_rows, const std::vector<std::int64_t>& rows,
            const float* vectors);
  Snapshot& next() { return *next_; }
  void commit() noexcept;

 private:
  void find_tombstones();
  // Segments from here to the last become one; beyond the last = none do.
  std::size_t first_to_merge(std::size_t n_new) const;
  void merge(std::size_t first, const std::vector<std::int64_t>& rows, const float* vectors);
  // Writes slots that no published snapshot sees yet.
  void append_to_delta(const std::vector<std::int64_t>& rows, const float* vectors);

  IndexState& state_;
  std::shared_ptr<Snapshot> next_;
  std::shared_ptr<Segment> delta_;
  std::vector<std::int64_t> stale_rows_;                         // sorted
  std::vector<std::pair<std::size_t, std::size_t>> tombstones_;  // (segment, slot)
};

// Gives back the rows of removed items when most rows are such. @pre state.writers is held
void renumber_if_sparse(IndexState& state, const Index::Commit& commit);

}  // namespace shortlist
