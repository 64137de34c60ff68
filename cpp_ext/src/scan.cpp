#include "scan.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "exact.hpp"

namespace shortlist {
namespace {

using kernels::Hit;
using kernels::kBlockItems;
using kernels::kMaxScanBlocks;

// Half of the smallest second-level cache in use today.
constexpr std::size_t kSliceBytes = 128 * 1024;
// Blocks whose dot products are looked at one by one to find a first threshold.
constexpr std::size_t kSeedBlocks = 8;
constexpr std::size_t kExactChunk = 256;
// Slices scored without a scan before the bound gets another try.
constexpr std::size_t kScoredSlices = 15;

}  // namespace

bool QueryRun::refresh_bound() {
  const float known =
      shared == nullptr ? best.threshold() : std::max(best.threshold(), shared->get());
  if (known == needed && has_threshold()) return false;
  needed = known;
  bound = query->bound_for(known);
  return true;
}

Scanner::Scanner(const Snapshot& snapshot, const kernels::Table& table)
    : snapshot_(snapshot),
      table_(table),
      hits_(kMaxScanBlocks * kBlockItems * table.query_tile),
      dots_(kSeedBlocks * kBlockItems * table.query_tile),
      sums_(kExactChunk) {}

bool Scanner::is_candidate(const SegmentView& view, std::size_t place, const QueryRun& run) const {
  return view.is_alive(place) && run.query->may_return(view.segment->row_at(place));
}

bool Scanner::rescore(const SegmentView& view, QueryRun& run, Pending& pending) {
  const Segment& segment = *view.segment;
  double sums[Pending::kCapacity];
  exact_sums(table_, snapshot_.metric, segment.vectors, run.query->exact(), pending.places, 0,
             pending.size, sums);
  for (std::size_t i = 0; i < pending.size; ++i) {
    run.best.push({to_score(snapshot_.metric, sums[i]),
                   segment.row_at(static_cast<std::size_t>(pending.places[i]))});
  }
  pending.size = 0;
  if (run.shared != nullptr) run.shared->raise(run.best.threshold());
  return run.refresh_bound();
}

void Scanner::update_thresholds(const SegmentView& view, std::size_t first, std::size_t n_blocks,
                                Tile& tile, std::size_t q) const {
  const kernels::BlockStats stats = view.segment->packed.block_stats();
  table_.thresholds(&stats, first, n_blocks, &tile.runs[q]->bound, tile.thresholds[q]);
}

void Scanner::take_hit(const SegmentView& view, std::size_t first, std::size_t n_blocks, Tile& tile,
                       std::uint32_t q, std::size_t item, std::int32_t dot) {
  if (dot <= tile.thresholds[q][item / kBlockItems]) return;
  const PackedItems& packed = view.segment->packed;
  const std::size_t position = first * kBlockItems + item;
  if (position >= packed.n_items) return;  // padding of the last block
  const std::size_t place = packed.row_at(position);
  QueryRun& run = *tile.runs[q];
  if (!is_candidate(view, place, run)) return;
  view.segment->vectors.prefetch(place);
  Pending& pending = pending_[q];
  pending.places[pending.size++] = static_cast<std::int64_t>(place);
  ++run.n_candidates;
  if (pending.size == Pending::kCapacity && rescore(view, run, pending)) {
    update_thresholds(view, first, n_blocks, tile, q);
  }
}

// Scores the best of every few items exactly, best groups first: N of them give a threshold.
void Scanner::seed_query(const SegmentView& view, std::size_t first, std::size_t n_blocks,
                         std::int32_t* dots, QueryRun& run, Pending& pending) {
  const PackedItems& packed = view.segment->packed;
  const kernels::BlockStats stats = packed.block_stats();
  const std::size_t group = run.best.capacity() <= n_blocks * 2 ? 8 : 1;
  best_of_group_.clear();
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const float unit = static_cast<float>(1.0 / stats.inverse_scale[first + b]);
    const float less = static_cast<float>(stats.half_square[first + b] * run.bound.inverse_scale);
    const std::int32_t offset = static_cast<std::int32_t>(run.bound.offset);
    for (std::size_t start = b * kBlockItems; start < (b + 1) * kBlockItems; start += group) {
      std::size_t best = start;
      for (std::size_t i = start + 1; i < start + group; ++i)
        best = dots[i] > dots[best] ? i : best;
      const float score = static_cast<float>(dots[best] - offset) * unit - less;
      best_of_group_.emplace_back(score, static_cast<std::uint32_t>(best));
    }
  }
  const std::size_t n_best = std::min(run.best.capacity(), best_of_group_.size());
  std::nth_element(best_of_group_.begin(),
                   best_of_group_.begin() + static_cast<std::ptrdiff_t>(n_best - 1),
                   best_of_group_.end(), std::greater<>());
  for (std::size_t i = 0; i < n_best; ++i) {
    const std::size_t item = best_of_group_[i].second;
    dots[item] = std::numeric_limits<std::int32_t>::min();  // not a second time
    const std::size_t position = first * kBlockItems + item;
    if (position >= packed.n_items) continue;
    const std::size_t place = packed.row_at(position);
    if (!is_candidate(view, place, run)) continue;
    pending.places[pending.size++] = static_cast<std::int64_t>(place);
    if (pending.size == Pending::kCapacity) rescore(view, run, pending);
  }
  rescore(view, run, pending);
}

void Scanner::seed(const SegmentView& view, std::size_t first, std::size_t n_blocks, Tile& tile) {
  const PackedItems& packed = view.segment->packed;
  const std::size_t n_items = n_blocks * kBlockItems;
  table_.dots(packed.codes + first * packed.block_bytes(), n_blocks, packed.n_groups, tile.codes,
              tile.n_runs, dots_.data());
  for (std::size_t q = 0; q < tile.n_runs; ++q) {
    std::int32_t* dots = dots_.data() + q * n_items;
    if (!tile.runs[q]->has_threshold()) {
      seed_query(view, first, n_blocks, dots, *tile.runs[q], pending_[q]);
    }
    update_thresholds(view, first, n_blocks, tile, q);
    for (std::size_t b = 0; b < n_blocks; ++b) {
      for (std::size_t item = b * kBlockItems; item < (b + 1) * kBlockItems; ++item) {
        if (dots[item] <= tile.thresholds[q][b]) continue;
        take_hit(view, first, n_blocks, tile, static_cast<std::uint32_t>(q), item, dots[item]);
      }
    }
    if (pending_[q].size > 0) rescore(view, *tile.runs[q], pending_[q]);
  }
}

void Scanner::interleave_codes(std::size_t n_groups, Tile& tile) {
  constexpr std::size_t kGroupDims = kernels::kGroupDims;
  tile_codes_.resize(n_groups * tile.n_runs * kGroupDims);
  for (std::size_t q = 0; q < tile.n_runs; ++q) {
    const std::int8_t* codes = tile.runs[q]->query->codes();
    std::int8_t* out = tile_codes_.data() + q * kGroupDims;
    for (std::size_t g = 0; g < n_groups; ++g) {
      std::memcpy(out + g * tile.n_runs * kGroupDims, codes + g * kGroupDims, kGroupDims);
    }
  }
  tile.codes = tile_codes_.data();
}

void Scanner::scan_slice(const SegmentView& view, std::size_t first, std::size_t end,
                         QueryRun* const* runs, std::size_t n_runs) {
  const PackedItems& packed = view.segment->packed;
  Tile tile;
  tile.runs = runs;
  tile.n_runs = n_runs;
  interleave_codes(packed.n_groups, tile);
  std::size_t n_blocks;
  for (std::size_t b = first; b < end; b += n_blocks) {
    bool is_seeding = false;
    for (std::size_t q = 0; q < n_runs; ++q) {
      runs[q]->refresh_bound();
      is_seeding = is_seeding || !runs[q]->has_threshold();
    }
    n_blocks = std::min(end - b, is_seeding ? kSeedBlocks : kMaxScanBlocks);
    if (is_seeding) {
      seed(view, b, n_blocks, tile);
      continue;
    }
    for (std::size_t q = 0; q < n_runs; ++q) update_thresholds(view, b, n_blocks, tile, q);
    const std::size_t n_hits =
        table_.scan(packed.codes + b * packed.block_bytes(), n_blocks, packed.n_groups, tile.codes,
                    n_runs, tile.thresholds[0], hits_.data());
    for (std::size_t i = 0; i < n_hits; ++i) {
      take_hit(view, b, n_blocks, tile, hits_[i].query, hits_[i].item, hits_[i].dot);
    }
    for (std::size_t q = 0; n_hits > 0 && q < n_runs; ++q) {
      if (pending_[q].size > 0) rescore(view, *runs[q], pending_[q]);
    }
  }
}

void Scanner::scan(const SegmentView& view, std::size_t first, std::size_t end,
                   std::vector<QueryRun*>& runs) {
  const std::size_t block_bytes = view.segment->packed.block_bytes();
  const std::size_t slice = std::max(kMaxScanBlocks, kSliceBytes / block_bytes);
  for (std::size_t b = first; b < end; b += slice) {
    const std::size_t slice_end = std::min(end, b + slice);
    scanned_.clear();
    for (QueryRun* run : runs) {
      if (run->n_slices_to_score == 0) {
        scanned_.push_back(run);
      } else {
        --run->n_slices_to_score;
        score_slice(view, b, slice_end, *run);
      }
    }
    for (std::size_t q = 0; q < scanned_.size(); q += table_.query_tile) {
      scan_slice(view, b, slice_end, scanned_.data() + q,
                 std::min(table_.query_tile, scanned_.size() - q));
    }
    for (QueryRun* run : scanned_) {
      if (2 * run->n_candidates > (slice_end - b) * kBlockItems) {
        run->n_slices_to_score = kScoredSlices;
      }
      run->n_candidates = 0;
    }
  }
}

void Scanner::score_slice(const SegmentView& view, std::size_t first, std::size_t end,
                          QueryRun& run) {
  const PackedItems& packed = view.segment->packed;
  end = std::min(end * kBlockItems, packed.n_items);
  if (packed.order == nullptr) {
    score_all(view, first * kBlockItems, end, run);
  } else {
    places_.assign(packed.order + first * kBlockItems, packed.order + end);
    for (std::size_t start = 0; start < places_.size(); start += kExactChunk) {
      const std::size_t n = std::min(kExactChunk, places_.size() - start);
      exact_sums(table_, snapshot_.metric, view.segment->vectors, run.query->exact(),
                 places_.data() + start, 0, n, sums_.data());
      push_sums(view, places_.data() + start, 0, n, run);
    }
  }
  if (run.shared != nullptr) run.shared->raise(run.best.threshold());
}

// Offers the scored places, places[i] or first + i, to the run.
void Scanner::push_sums(const SegmentView& view, const std::int64_t* places, std::size_t first,
                        std::size_t n, QueryRun& run) {
  const Segment& segment = *view.segment;
  float threshold = run.best.threshold();
  for (std::size_t i = 0; i < n; ++i) {
    const float score = to_score(snapshot_.metric, sums_[i]);
    if (score < threshold) continue;
    const std::size_t place = places == nullptr ? first + i : static_cast<std::size_t>(places[i]);
    if (!is_candidate(view, place, run)) continue;
    run.best.push({score, segment.row_at(place)});
    threshold = run.best.threshold();
  }
}

void Scanner::score_all(const SegmentView& view, std::size_t first, std::size_t end,
                        QueryRun& run) {
  const StoredRows& vectors = view.segment->vectors;
  for (std::size_t start = first; start < end; start += kExactChunk) {
    const std::size_t n = std::min(kExactChunk, end - start);
    exact_sums(table_, snapshot_.metric, vectors, run.query->exact(), nullptr, start, n,
               sums_.data());
    push_sums(view, nullptr, start, n, run);
  }
}

void Scanner::score_list(QueryRun& run) {
  Pending& pending = pending_[0];
  const std::vector<std::int64_t>& rows = *run.query->short_list();
  for (const SegmentView& view : snapshot_.segments) {
    const auto take = [&](std::int64_t place) {
      if (place < 0 || !is_candidate(view, static_cast<std::size_t>(place), run)) return;
      view.segment->vectors.prefetch(static_cast<std::size_t>(place));
      pending.places[pending.size++] = place;
      if (pending.size == Pending::kCapacity) rescore(view, run, pending);
    };
    if (view.segment->is_delta) {  // in no order: look at each place whether it is on the list
      for (std::size_t place = 0; place < view.n_places; ++place) {
        take(static_cast<std::int64_t>(place));
      }
    } else {
      for (const std::int64_t row : rows) take(view.segment->place_of(row));
    }
    rescore(view, run, pending);
  }
}

}  // namespace shortlist
