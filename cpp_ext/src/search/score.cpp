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
      push_sums(view, buffers_.slots.data() + start, 0, n, run);
    }
  }
  run.best.settle(true);
  if (run.shared != nullptr) run.shared->raise(run.best.threshold());
}

// Offers the scored slots, slots[i] or first + i, to the run.
void Scanner::push_sums(const SegmentView& view, const std::int64_t* slots, std::size_t first,
                        std::size_t n, QueryRun& run) {
  const Segment& segment = *view.segment;
  float threshold = run.best.threshold();
  for (std::size_t i = 0; i < n; ++i) {
    const float score = to_score(snapshot_.metric, buffers_.sums[i]);
    if (score < threshold) continue;
    const std::size_t slot = slots == nullptr ? first + i : static_cast<std::size_t>(slots[i]);
    const Neighbor found = {score, segment.row_at(slot)};
    if (!run.best.accepts(found) || !is_candidate(view, slot, run)) continue;
    run.best.push(found);
    threshold = run.best.threshold();
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
    push_sums(view, nullptr, start, n, run);
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
