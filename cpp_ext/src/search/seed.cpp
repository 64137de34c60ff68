// The first slice of a scan, while no N-th score is known. Its dot products are kept: the largest
// ones lead to N good items, whose exact scores make a threshold for all others.
#include <algorithm>

#include "src/search/cutoff.hpp"
#include "src/search/scan.hpp"

namespace shortlist {

using kernels::Hit;
using kernels::kBlockItems;
using kernels::kMaximaLanes;
using kernels::kMaxScanBlocks;

namespace {

// The benchmarks of these numbers: benchmarks/top_n.py --grid --n-items 10000, where the first
// slice is most of the scan, and benchmarks/serving.py, whose requests exclude what users have
// seen.

// Parts of blocks that stand for one item each; with fewer, good items hide behind better ones.
constexpr std::size_t kPartsPerRank = 4;
// A filter takes good items away: one more is asked for with every so many ranks (and one) …
constexpr std::size_t kRanksPerSpare = 4;
// … and up to so many for each rank where too few passed.
constexpr std::size_t kMostPerRank = 4;
constexpr std::size_t kCounters = 4;
// The largest factors with which no estimate leaves the float32 range.
constexpr double kMostUnit = 1e28, kMostLess = 1e37;
// Blocks that are collected before it shows that most of their items are candidates: --kind
// all_equal.
constexpr std::size_t kFirstChunk = 8;

std::int32_t largest(const std::int32_t* maxima) {
  return *std::max_element(maxima, maxima + kMaximaLanes);
}

}  // namespace

// Takes the items behind the best maxima, and strikes them out of the slice: the N-th of their
// scores is one to reach for all others. Takes none where there are fewer items than it wants.
void Scanner::take_best(const SegmentView& view, const SeedSlice& slice, QueryRun& run) {
  const std::size_t n_ranks = run.best.capacity();
  const bool is_filtered = view.tombstones != nullptr || run.query->is_filtered();
  std::size_t n_wanted = is_filtered ? n_ranks + n_ranks / kRanksPerSpare + 1 : n_ranks;
  if (kPartsPerRank * n_wanted > slice.n_blocks * kMaximaLanes) {
    if (n_wanted <= slice.n_blocks * kBlockItems) take_best_items(view, slice, n_wanted, run);
    return;
  }
  const std::size_t n_parts = kPartsPerRank * n_wanted <= slice.n_blocks ? 1 : kMaximaLanes;
  const PackedItems& packed = view.segment->packed;
  const kernels::BlockStats stats = packed.block_stats();
  std::vector<float>& scores = buffers_.scores;
  scores.resize(slice.n_blocks * n_parts);
  table_.best_scores(&stats, slice.first, slice.n_blocks, &run.bound, slice.maxima, n_parts,
                     scores.data());
  const std::size_t n_most = std::min(scores.size(), kMostPerRank * n_ranks);
  float above = std::numeric_limits<float>::infinity();
  std::size_t n_taken = 0;
  while (true) {
    const float cutoff = cutoff_for(scores, n_wanted);
    n_taken += take_between(view, slice, n_parts, cutoff, above, 2 * n_wanted - n_taken, run);
    if (n_taken >= n_ranks || n_wanted >= n_most) return;
    above = std::min(above, cutoff);  // cutoffs need not fall: none is looked at twice
    n_wanted = std::min(n_most, 2 * n_wanted);
  }
}

// Takes the items behind the maxima in [cutoff, above) that pass the filter, at most n_limit, and
// says how many.
std::size_t Scanner::take_between(const SegmentView& view, const SeedSlice& slice,
                                  std::size_t n_parts, float cutoff, float above,
                                  std::size_t n_limit, QueryRun& run) {
  const std::vector<float>& scores = buffers_.scores;
  std::size_t n_taken = 0;
  for (std::size_t i = 0; i < scores.size() && n_taken < n_limit; ++i) {
    if (scores[i] < cutoff || scores[i] >= above) continue;
    const std::size_t block = i / n_parts, lane = i % n_parts;
    const std::int32_t* maxima = slice.maxima + block * kMaximaLanes;
    const std::int32_t most = n_parts == 1 ? largest(maxima) : maxima[lane];
    std::int32_t* dots = slice.dots + block * kBlockItems;
    const std::int32_t below = most - 1;
    const Hit* hit = buffers_.hits.data();
    const Hit* const end = hit + table_.pick(dots, maxima, 1, &below, buffers_.hits.data());
    while (hit != end && (hit->dot != most || hit->item % n_parts != lane)) ++hit;
    if (hit == end) continue;
    const std::size_t position = (slice.first + block) * kBlockItems + hit->item;
    if (!take(view, position, hit->dot, run)) continue;
    dots[hit->item] = kTaken;
    ++n_taken;
  }
  return n_taken;
}

// About the score of each item of some blocks, given their dot products.
void Scanner::estimate(const PackedItems& packed, std::size_t first, std::size_t n_blocks,
                       const std::int32_t* dots, const QueryRun& run, float* scores) {
  const kernels::BlockStats stats = packed.block_stats();
  const auto offset = static_cast<std::int32_t>(run.bound.offset);
  for (std::size_t block = first; block < first + n_blocks; ++block) {
    const double step = stats.inverse_scale[block] * run.bound.inverse_scale;
    const auto unit = static_cast<float>(std::min(1 / step, kMostUnit));
    const auto less = static_cast<float>(std::min(stats.half_square[block], kMostLess));
    for (std::size_t i = 0; i < kBlockItems; ++i) {
      scores[i] = static_cast<float>(dots[i] - offset) * unit - less;
    }
    dots += kBlockItems;
    scores += kBlockItems;
  }
}

// take_best where there are too few maxima: every item is judged by itself.
void Scanner::take_best_items(const SegmentView& view, const SeedSlice& slice, std::size_t n_wanted,
                              QueryRun& run) {
  buffers_.scores.resize(slice.n_blocks * kBlockItems);
  estimate(view.segment->packed, slice.first, slice.n_blocks, slice.dots, run,
           buffers_.scores.data());
  const auto [low, high] = range_of(buffers_.scores);
  const float scale = static_cast<float>(kBuckets - 1) / (high - low);
  if (!(scale > 0 && scale < std::numeric_limits<float>::infinity())) return;
  const std::size_t n_items = buffers_.scores.size();
  buffers_.buckets.resize(n_items);
  const float* const scores = buffers_.scores.data();
  unsigned char* const buckets = buffers_.buckets.data();
  for (std::size_t i = 0; i < n_items; ++i) {
    buckets[i] = static_cast<unsigned char>(static_cast<int>((scores[i] - low) * scale));
  }
  std::uint32_t counts[kCounters][kBuckets] = {};  // several, so that none waits for the one before
  for (std::size_t i = 0; i < n_items; i += kCounters) {  // n_items is whole blocks
    for (std::size_t k = 0; k < kCounters; ++k) ++counts[k][buckets[i + k]];
  }
  std::size_t above = kBuckets, n_above = 0, n_taken = 0;
  while (n_taken < run.best.capacity() && above > 0) {
    std::size_t bucket = above;
    while (bucket > 0 && n_above < n_wanted) {
      --bucket;
      for (const auto& counter : counts) n_above += counter[bucket];
    }
    // A crowded bucket: its items wait for `collect`, which finds out the best of them.
    if (n_above > 2 * n_wanted) return;
    n_taken += take_items(view, slice, bucket, above, run);
    above = bucket;
    n_wanted *= 2;
  }
}

// Takes the items in the buckets [first, end) that pass the filter, and says how many.
std::size_t Scanner::take_items(const SegmentView& view, const SeedSlice& slice, std::size_t first,
                                std::size_t end, QueryRun& run) {
  const std::size_t n_items = buffers_.buckets.size();
  buffers_.chosen.resize(n_items);
  const unsigned char* const buckets = buffers_.buckets.data();
  std::uint32_t* const chosen = buffers_.chosen.data();
  std::size_t n_chosen = 0, n_taken = 0;
  for (std::size_t i = 0; i < n_items; ++i) {  // without a branch that errs at every other item
    chosen[n_chosen] = static_cast<std::uint32_t>(i);
    n_chosen += buckets[i] - first < end - first;  // an unsigned difference
  }
  for (std::size_t c = 0; c < n_chosen; ++c) {
    const std::size_t position = slice.first * kBlockItems + chosen[c];
    if (!take(view, position, slice.dots[chosen[c]], run)) continue;
    slice.dots[chosen[c]] = kTaken;
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
  table_.dots(codes_at(packed, first), n_blocks, packed.n_groups, tile.codes, n_runs, dots, maxima);
  const auto slice_of = [=](std::size_t q) {
    return SeedSlice{first, n_blocks, dots + q * n_dots, maxima + q * n_maxima};
  };
  for (std::size_t q = 0; q < n_runs; ++q) take_best(view, slice_of(q), *runs[q]);
  for (std::size_t q = 0; q < n_runs; ++q) rescore(view, *runs[q]);
  for (std::size_t q = 0; q < n_runs; ++q) collect(view, slice_of(q), tile, q);
}

}  // namespace shortlist
