// The first slice of a scan, while no N-th score is known. Its dot products are kept: the largest
// ones lead to N good items, whose exact scores make a threshold for all others.
#include <algorithm>
#include <functional>
#include <utility>

#include "scan.hpp"

namespace shortlist {

using kernels::Hit;
using kernels::kBlockItems;
using kernels::kMaximaLanes;
using kernels::kMaxScanBlocks;

namespace {

// Parts of blocks that stand for one item each; with fewer, good items hide behind better ones.
constexpr std::size_t kPartsPerPlace = 4;
// A filter takes good items away: one more is asked for with every so many places (and one) …
constexpr std::size_t kSparePlaces = 4;
// … and up to so many for each place where too few passed.
constexpr std::size_t kMostPerPlace = 4;
constexpr std::size_t kBuckets = 256;
// The largest factors with which no estimate leaves the float32 range.
constexpr double kMostUnit = 1e28, kMostLess = 1e37;
// Blocks that are collected before it shows that most of their items are candidates.
constexpr std::size_t kFirstChunk = 8;

std::int32_t largest(const std::int32_t* maxima) {
  return *std::max_element(maxima, maxima + kMaximaLanes);
}

// The least and the greatest. In lanes, so that none waits for the one before.
std::pair<float, float> range_of(const std::vector<float>& scores) {
  constexpr std::size_t kLanes = 8;
  float low[kLanes], high[kLanes];
  std::fill_n(low, kLanes, scores[0]);
  std::fill_n(high, kLanes, scores[0]);
  std::size_t i = 0;
  for (; i + kLanes <= scores.size(); i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k) {
      low[k] = std::min(low[k], scores[i + k]);
      high[k] = std::max(high[k], scores[i + k]);
    }
  }
  for (; i < scores.size(); ++i) {
    low[0] = std::min(low[0], scores[i]);
    high[0] = std::max(high[0], scores[i]);
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

// A value that n_wanted of the scores reach, and few more: by counting, as nth_element would
// mispredict a branch at every other score. @pre 0 < n_wanted <= scores.size()
float cutoff_for(std::vector<float>& scores, std::size_t n_wanted) {
  const auto [low, high] = range_of(scores);
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

// Takes the items behind the best maxima, and strikes them out of the slice: the N-th of their
// scores is one to reach for all others. Takes none where there are fewer maxima than it wants.
void Scanner::take_best(const SegmentView& view, const SeedSlice& slice, QueryRun& run) {
  const std::size_t n_places = run.best.capacity();
  const bool is_filtered = view.deaths != nullptr || run.query->is_filtered();
  std::size_t n_wanted = is_filtered ? n_places + n_places / kSparePlaces + 1 : n_places;
  std::size_t n_parts = kBlockItems;
  for (const std::size_t n : {std::size_t{1}, kMaximaLanes}) {
    if (n_parts == kBlockItems && kPartsPerPlace * n_wanted <= slice.n_blocks * n) n_parts = n;
  }
  if (n_wanted > slice.n_blocks * n_parts) return;
  estimate(view, slice, n_parts, run);
  std::vector<float>& scores = buffers_.scores;
  const std::size_t n_most = std::min(scores.size(), kMostPerPlace * n_places);
  float above = std::numeric_limits<float>::infinity();
  std::size_t n_taken = 0;
  while (true) {
    const float cutoff = cutoff_for(scores, n_wanted);
    n_taken += take_between(view, slice, n_parts, cutoff, above, 2 * n_wanted - n_taken, run);
    if (n_taken >= n_places || n_wanted >= n_most) return;
    above = std::min(above, cutoff);  // cutoffs need not fall: none is looked at twice
    n_wanted = std::min(n_most, 2 * n_wanted);
  }
}

// Fills buffers_.scores with about the best score of each part, the parts of a block together.
void Scanner::estimate(const SegmentView& view, const SeedSlice& slice, std::size_t n_parts,
                       const QueryRun& run) {
  const kernels::BlockStats stats = view.segment->packed.block_stats();
  std::vector<float>& scores = buffers_.scores;
  scores.resize(slice.n_blocks * n_parts);
  if (n_parts <= kMaximaLanes) {
    table_.best_scores(&stats, slice.first, slice.n_blocks, &run.bound, slice.maxima, n_parts,
                       scores.data());
    return;
  }
  // The same of every item, whose dot product is a maximum of its own.
  const auto offset = static_cast<std::int32_t>(run.bound.offset);
  for (std::size_t block = 0; block < slice.n_blocks; ++block) {
    const double step = stats.inverse_scale[slice.first + block] * run.bound.inverse_scale;
    const auto unit = static_cast<float>(std::min(1 / step, kMostUnit));
    const auto less =
        static_cast<float>(std::min(stats.half_square[slice.first + block], kMostLess));
    const std::int32_t* dots = slice.dots + block * kBlockItems;
    float* out = scores.data() + block * kBlockItems;
    for (std::size_t i = 0; i < kBlockItems; ++i) {
      out[i] = static_cast<float>(dots[i] - offset) * unit - less;
    }
  }
}

// Takes the items behind the maxima in [cutoff, above) that pass the filter, at most n_limit, and
// says how many.
std::size_t Scanner::take_between(const SegmentView& view, const SeedSlice& slice,
                                  std::size_t n_parts, float cutoff, float above,
                                  std::size_t n_limit, QueryRun& run) {
  const std::vector<float>& scores = buffers_.scores;
  // Found first, without a branch that would go wrong at every other one.
  std::vector<std::uint32_t>& chosen = buffers_.chosen;
  chosen.resize(scores.size());
  std::size_t n_chosen = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    chosen[n_chosen] = static_cast<std::uint32_t>(i);
    n_chosen += static_cast<std::size_t>(scores[i] >= cutoff) & (scores[i] < above);
  }
  std::size_t n_taken = 0;
  for (std::size_t c = 0; c < n_chosen && n_taken < n_limit; ++c) {
    const std::size_t i = chosen[c], block = i / n_parts, lane = i % n_parts;
    if (n_parts == kBlockItems) {
      if (!take(view, slice.first * kBlockItems + i, run)) continue;
      slice.dots[i] = kStruckOut;
      ++n_taken;
      continue;
    }
    const std::int32_t* maxima = slice.maxima + block * kMaximaLanes;
    const std::int32_t most = n_parts == 1 ? largest(maxima) : maxima[lane];
    std::int32_t* dots = slice.dots + block * kBlockItems;
    const std::int32_t below = most - 1;
    const Hit* hit = buffers_.hits.data();
    const Hit* const end = hit + table_.pick(dots, maxima, 1, &below, buffers_.hits.data());
    while (hit != end && (hit->dot != most || hit->item % n_parts != lane)) ++hit;
    if (hit == end || !take(view, (slice.first + block) * kBlockItems + hit->item, run)) continue;
    dots[hit->item] = kStruckOut;
    ++n_taken;
  }
  return n_taken;
}

// Takes the items of the slice that may beat the threshold; where those are most, all the rest.
void Scanner::collect(const SegmentView& view, const SeedSlice& slice, Tile& tile, std::size_t q) {
  QueryRun& run = *tile.runs[q];
  Hit* hits = buffers_.hits.data();
  std::size_t n_blocks;
  for (std::size_t chunk = 0; chunk < slice.n_blocks; chunk += n_blocks) {
    n_blocks = std::min(chunk == 0 ? kFirstChunk : kMaxScanBlocks, slice.n_blocks - chunk);
    update_thresholds(view, slice.first + chunk, n_blocks, tile, q);
    const std::size_t n_hits =
        table_.pick(slice.dots + chunk * kBlockItems, slice.maxima + chunk * kMaximaLanes, n_blocks,
                    tile.thresholds[q], hits);
    for (std::size_t i = 0; i < n_hits; ++i) {
      take_hit(view, slice.first + chunk, n_blocks, tile, static_cast<std::uint32_t>(q),
               hits[i].item, hits[i].dot);
    }
    const std::size_t n_seen = chunk + n_blocks;
    if (n_seen < slice.n_blocks && 2 * run.n_candidates > n_seen * kBlockItems) {
      run.n_slices_to_score = kScoredSlices;
      score_slice(view, slice.first + n_seen, slice.first + slice.n_blocks, run,
                  slice.dots + n_seen * kBlockItems);
      break;
    }
  }
}

// In three passes over the queries: the rows that one pass asks for come while the queries that
// follow are looked at.
void Scanner::seed_slice(const SegmentView& view, std::size_t first, std::size_t end,
                         QueryRun* const* runs, std::size_t n_runs) {
  const PackedItems& packed = view.segment->packed;
  const std::size_t n_blocks = end - first;
  Tile tile = tile_of(packed.n_groups, runs, n_runs);
  const std::size_t n_dots = n_blocks * kBlockItems, n_maxima = n_blocks * kMaximaLanes;
  std::int32_t* dots = buffers_.seed_dots(n_runs * (n_dots + n_maxima));
  std::int32_t* maxima = dots + n_runs * n_dots;
  table_.dots(packed.codes + first * packed.block_bytes(), n_blocks, packed.n_groups, tile.codes,
              n_runs, dots, maxima);
  const auto slice_of = [=](std::size_t q) {
    return SeedSlice{first, n_blocks, dots + q * n_dots, maxima + q * n_maxima};
  };
  for (std::size_t q = 0; q < n_runs; ++q) take_best(view, slice_of(q), *runs[q]);
  for (std::size_t q = 0; q < n_runs; ++q) rescore(view, *runs[q]);
  for (std::size_t q = 0; q < n_runs; ++q) collect(view, slice_of(q), tile, q);
}

}  // namespace shortlist
