// The first slice of a scan, while no N-th score is known. Its dot products are kept: the largest
// ones lead to N good items, the N-th of which is the threshold for all others.
#include <algorithm>
#include <functional>

#include "exact.hpp"
#include "scan.hpp"

namespace shortlist {

using kernels::kBlockItems;
using kernels::kMaximaLanes;
using kernels::kMaxScanBlocks;

namespace {

// Parts of blocks that stand for one item each; with fewer, good items hide behind better ones.
constexpr std::size_t kPartsPerPlace = 4;
// Filters take good items away: so many more are looked at when there are some.
constexpr std::size_t kFilteredFactor = 4;
constexpr std::size_t kBuckets = 256;

std::int32_t largest(const std::int32_t* maxima) {
  return *std::max_element(maxima, maxima + kMaximaLanes);
}

// A value that n_wanted of the scores reach, and few more: by counting, as nth_element would
// mispredict a branch at every other score. @pre 0 < n_wanted <= scores.size()
float cutoff_for(std::vector<float>& scores, std::size_t n_wanted) {
  float low = scores[0], high = scores[0];
  for (const float score : scores) {
    low = std::min(low, score);
    high = std::max(high, score);
  }
  const float scale = static_cast<float>(kBuckets - 1) / (high - low);
  if (scale > 0 && scale < std::numeric_limits<float>::infinity()) {
    std::uint32_t counts[kBuckets] = {};
    for (const float score : scores) ++counts[static_cast<std::size_t>((score - low) * scale)];
    std::size_t bucket = kBuckets - 1, n_above = counts[bucket];
    while (n_above < n_wanted) n_above += counts[--bucket];
    // Bucket 0 or a crowded one says too little about a heavy-tailed distribution.
    if (n_above <= 2 * n_wanted) {
      return low + (static_cast<float>(bucket) * (1 - 1e-6F)) / scale;
    }
  }
  std::vector<float> ranked = scores;
  const auto last = ranked.begin() + static_cast<std::ptrdiff_t>(n_wanted - 1);
  std::nth_element(ranked.begin(), last, ranked.end(), std::greater<>());
  return *last;
}

}  // namespace

// Scores the items behind the best maxima; the N-th of them is a score to reach. Leaves the floor
// as it is when they are fewer than N.
void Scanner::find_floor(const SegmentView& view, const SeedSlice& slice, QueryRun& run) {
  const std::size_t n_places = run.best.capacity();
  const bool is_filtered = view.deaths != nullptr || run.query->is_filtered();
  const std::size_t n_wanted = is_filtered ? kFilteredFactor * n_places : n_places;
  const std::size_t n_parts = kPartsPerPlace * n_wanted <= slice.n_blocks ? 1 : kMaximaLanes;
  if (n_wanted > slice.n_blocks * n_parts) return;
  const PackedItems& packed = view.segment->packed;
  const kernels::BlockStats stats = packed.block_stats();
  std::vector<float>& scores = buffers_.scores;
  scores.resize(slice.n_blocks * n_parts);
  table_.best_scores(&stats, slice.first, slice.n_blocks, &run.bound, slice.maxima, n_parts,
                     scores.data());
  const float cutoff = cutoff_for(scores, n_wanted);

  std::vector<std::int64_t>& places = buffers_.places;
  places.clear();
  const std::size_t n_items_of_part = kBlockItems / n_parts;
  for (std::size_t i = 0; i < scores.size() && places.size() < 2 * n_wanted; ++i) {
    if (scores[i] < cutoff) continue;
    const std::size_t block = i / n_parts, lane = i % n_parts;
    const std::int32_t* maxima = slice.maxima + block * kMaximaLanes;
    const std::int32_t most = n_parts == 1 ? largest(maxima) : maxima[lane];
    const std::int32_t* dots = slice.dots + block * kBlockItems;
    std::size_t item = lane;
    for (std::size_t k = 1; k < n_items_of_part && dots[item] != most; ++k) item += n_parts;
    const std::size_t position = (slice.first + block) * kBlockItems + item;
    if (position >= packed.n_items) continue;  // padding of the last block
    const std::size_t place = packed.row_at(position);
    if (is_candidate(view, place, run)) places.push_back(static_cast<std::int64_t>(place));
  }
  if (places.size() < n_places) return;
  std::vector<double>& sums = buffers_.sums;
  sums.resize(std::max(sums.size(), places.size()));
  exact_sums(table_, snapshot_.metric, view.segment->vectors, run.query->exact(), places.data(), 0,
             places.size(), sums.data());
  for (std::size_t i = 0; i < places.size(); ++i) {
    sums[i] = static_cast<double>(to_score(snapshot_.metric, sums[i]));
  }
  const auto nth = sums.begin() + static_cast<std::ptrdiff_t>(n_places - 1);
  std::nth_element(sums.begin(), nth, sums.begin() + static_cast<std::ptrdiff_t>(places.size()),
                   std::greater<>());
  run.floor = static_cast<float>(*nth);
  if (run.shared != nullptr) run.shared->raise(run.floor);
  run.refresh_bound();
}

// Takes the items of the slice that may beat the threshold; where those are most, all the rest.
void Scanner::collect(const SegmentView& view, const SeedSlice& slice, Tile& tile, std::size_t q) {
  QueryRun& run = *tile.runs[q];
  for (std::size_t chunk = 0; chunk < slice.n_blocks; chunk += kMaxScanBlocks) {
    const std::size_t n_blocks = std::min(kMaxScanBlocks, slice.n_blocks - chunk);
    update_thresholds(view, slice.first + chunk, n_blocks, tile, q);
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::int32_t threshold = tile.thresholds[q][b];
      if (largest(slice.maxima + (chunk + b) * kMaximaLanes) <= threshold) continue;
      const std::int32_t* dots = slice.dots + (chunk + b) * kBlockItems;
      for (std::size_t item = 0; item < kBlockItems; ++item) {
        if (dots[item] <= threshold) continue;
        take_hit(view, slice.first + chunk, n_blocks, tile, static_cast<std::uint32_t>(q),
                 b * kBlockItems + item, dots[item]);
      }
    }
    const std::size_t n_seen = chunk + n_blocks;
    if (n_seen < slice.n_blocks && 2 * run.n_candidates > n_seen * kBlockItems) {
      run.n_slices_to_score = kScoredSlices;
      score_slice(view, slice.first + n_seen, slice.first + slice.n_blocks, run);
      break;
    }
  }
}

void Scanner::seed_slice(const SegmentView& view, std::size_t first, std::size_t end,
                         QueryRun* const* runs, std::size_t n_runs) {
  const PackedItems& packed = view.segment->packed;
  const std::size_t n_blocks = end - first;
  Tile tile = tile_of(packed.n_groups, runs, n_runs);
  std::vector<std::int32_t>& dots = buffers_.dots;
  std::vector<std::int32_t>& maxima = buffers_.maxima;
  dots.resize(std::max(dots.size(), n_runs * n_blocks * kBlockItems));
  maxima.resize(std::max(maxima.size(), n_runs * n_blocks * kMaximaLanes));
  table_.dots(packed.codes + first * packed.block_bytes(), n_blocks, packed.n_groups, tile.codes,
              n_runs, dots.data(), maxima.data());
  for (std::size_t q = 0; q < n_runs; ++q) {
    const SeedSlice slice = {first, n_blocks, dots.data() + q * n_blocks * kBlockItems,
                             maxima.data() + q * n_blocks * kMaximaLanes};
    find_floor(view, slice, *runs[q]);
    collect(view, slice, tile, q);
  }
}

}  // namespace shortlist
