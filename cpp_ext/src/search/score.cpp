// Exact scores of many items without a scan: of a few, of a list, or where the bound proves
// nothing.
#include <algorithm>

#include "src/rows/exact.hpp"
#include "src/search/scan.hpp"

namespace shortlist {

using kernels::kBlockItems;

namespace {

// Exact scores that are compared with the threshold at a time: their sums stay in the first-level
// cache. Benchmark: benchmarks/top_n.py --kind all_equal.
constexpr std::size_t kExactChunk = 256;
// The same where several queries share them.
constexpr std::size_t kSharedChunk = 64;
static_assert(kSharedChunk % kernels::kTileRows == 0);
// Sums that are compared with the threshold at once.
constexpr std::size_t kGlance = 16;

// False if none of the sums makes a score above the one before the threshold (above the threshold
// itself where a tie does not count): halfway between two scores a sum may round to the higher.
bool may_reach(Metric metric, float threshold, bool ties_count, const double* sums, std::size_t n) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float next = std::nextafter(threshold, ties_count ? -kInfinity : kInfinity);
  const double halfway = static_cast<double>(threshold) / 2 + static_cast<double>(next) / 2;
  bool any = false;
  if (metric == Metric::euclidean) {  // the root rounds, and so does the square
    const double limit = halfway * halfway * (1 + 1e-9);
    for (std::size_t i = 0; i < n; ++i) any |= sums[i] <= limit;
  } else {
    for (std::size_t i = 0; i < n; ++i) any |= sums[i] >= halfway;
  }
  return any;
}

}  // namespace

void Scanner::score_slice(const SegmentView& view, std::size_t first, std::size_t end,
                          QueryRun& run, const std::int32_t* dots) {
  const PackedItems& packed = view.segment->packed;
  first *= kBlockItems;
  end = std::min(end * kBlockItems, packed.n_items);
  if (packed.order == nullptr && dots == nullptr) {
    score_all(view, first, end, run);
  } else {
    buffers_.sums.resize(std::max(buffers_.sums.size(), kExactChunk));
    buffers_.slots.clear();
    for (std::size_t position = first; position < end; ++position) {
      if (dots != nullptr && dots[position - first] == kTaken) continue;
      buffers_.slots.push_back(static_cast<std::int64_t>(packed.slot_at(position)));
    }
    for (std::size_t start = 0; start < buffers_.slots.size(); start += kExactChunk) {
      const std::size_t n = std::min(kExactChunk, buffers_.slots.size() - start);
      exact_sums(table_, snapshot_.metric, view.segment->vectors, run.query->exact(),
                 buffers_.slots.data() + start, 0, n, buffers_.sums.data());
      push_sums(view, buffers_.sums.data(), buffers_.slots.data() + start, 0, n, run);
    }
  }
  run.best.settle(true);
  if (run.shared != nullptr) run.shared->raise(run.best.threshold());
}

// Offers the scored slots, slots[i] or first + i, to the run. None has a lower row than least_row.
void Scanner::push_sums(const SegmentView& view, const double* sums, const std::int64_t* slots,
                        std::size_t first, std::size_t n, QueryRun& run, std::int64_t least_row) {
  const Segment& segment = *view.segment;
  float threshold = run.best.threshold();
  for (std::size_t start = 0; start < n; start += kGlance) {
    const std::size_t end = std::min(n, start + kGlance);
    const bool ties_count = run.best.accepts({threshold, least_row});
    if (!may_reach(snapshot_.metric, threshold, ties_count, sums + start, end - start)) continue;
    for (std::size_t i = start; i < end; ++i) {
      const float score = to_score(snapshot_.metric, sums[i]);
      if (score < threshold) continue;
      const std::size_t slot = slots == nullptr ? first + i : static_cast<std::size_t>(slots[i]);
      const Neighbor found = {score, segment.row_at(slot)};
      if (!run.best.accepts(found) || !is_candidate(view, slot, run)) continue;
      run.best.push(found);
      threshold = run.best.threshold();
    }
  }
}

void Scanner::score_together(const SegmentView& view, std::size_t first, std::size_t end,
                             const std::vector<QueryRun*>& runs) {
  using kernels::kTileRows;
  const Segment& segment = *view.segment;
  const StoredRows& vectors = segment.vectors;
  const auto kernel =
      snapshot_.metric == Metric::euclidean ? table_.distance_tile : table_.dot_tile;
  const std::size_t dim = (vectors.dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes;
  buffers_.queries.clear();
  for (const QueryRun* run : runs) buffers_.queries.push_back(run->query->exact());
  buffers_.sums.resize(std::max(buffers_.sums.size(), runs.size() * kSharedChunk));
  std::vector<double>& tile = buffers_.row_tile;
  tile.assign(dim * kTileRows, 0.0);
  std::vector<float> widened(vectors.dim * kTileRows);
  end = std::min(end * kBlockItems, segment.packed.n_items);
  for (std::size_t chunk = first * kBlockItems; chunk < end; chunk += kSharedChunk) {
    const std::size_t n = std::min(kSharedChunk, end - chunk);
    std::int64_t slots[kSharedChunk];
    std::int64_t least_row = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t slot = segment.packed.slot_at(chunk + i);
      slots[i] = static_cast<std::int64_t>(slot);
      least_row = std::min(least_row, segment.row_at(slot));
    }
    for (std::size_t start = 0; start < n; start += kTileRows) {
      const float* rows[kTileRows];
      for (std::size_t r = 0; r < kTileRows; ++r) {  // past the end: the last row again
        const auto slot = static_cast<std::size_t>(slots[std::min(start + r, n - 1)]);
        rows[r] = vectors.read(slot, widened.data() + r * vectors.dim);
      }
      for (std::size_t d = 0; d < vectors.dim; ++d) {
        for (std::size_t r = 0; r < kTileRows; ++r) {
          tile[d * kTileRows + r] = static_cast<double>(rows[r][d]);
        }
      }
      kernel(buffers_.queries.data(), runs.size(), tile.data(), dim, buffers_.sums.data() + start,
             kSharedChunk);
    }
    for (std::size_t q = 0; q < runs.size(); ++q) {
      push_sums(view, buffers_.sums.data() + q * kSharedChunk, slots, 0, n, *runs[q], least_row);
    }
  }
  for (QueryRun* run : runs) {
    run->best.settle(true);
    if (run->shared != nullptr) run->shared->raise(run->best.threshold());
  }
}

void Scanner::score_all(const SegmentView& view, std::size_t first, std::size_t end,
                        QueryRun& run) {
  buffers_.sums.resize(std::max(buffers_.sums.size(), kExactChunk));
  const StoredRows& vectors = view.segment->vectors;
  for (std::size_t start = first; start < end; start += kExactChunk) {
    const std::size_t n = std::min(kExactChunk, end - start);
    exact_sums(table_, snapshot_.metric, vectors, run.query->exact(), nullptr, start, n,
               buffers_.sums.data());
    push_sums(view, buffers_.sums.data(), nullptr, start, n, run);
  }
}

void Scanner::score_list(QueryRun& run) {
  Pending& pending = run.pending;
  const std::vector<std::int64_t>& rows = *run.query->short_list();
  for (const SegmentView& view : snapshot_.segments) {
    const auto take = [&](std::int64_t slot) {
      if (slot < 0 || !is_candidate(view, static_cast<std::size_t>(slot), run)) return;
      view.segment->vectors.prefetch(static_cast<std::size_t>(slot));
      pending.slots[pending.size++] = slot;
      if (pending.size == Pending::kCapacity) score_pending(view, run, false);
    };
    if (view.segment->is_delta) {  // in no order: look at each slot whether it is on the list
      for (std::size_t slot = 0; slot < view.n_slots; ++slot) {
        take(static_cast<std::int64_t>(slot));
      }
    } else {
      for (const std::int64_t row : rows) take(view.segment->slot_of(row));
    }
    score_pending(view, run);
  }
}

}  // namespace shortlist
