#include "src/search/scan.hpp"

#include <algorithm>

#include "src/rows/exact.hpp"

namespace shortlist {
namespace {

using kernels::Hit;
using kernels::kBlockItems;
using kernels::kMaxScanBlocks;

// The benchmark of these numbers: benchmarks/top_n.py --grid --threads 1, whose column "of ceiling"
// compares with what benchmarks/ceilings.py measures.

// Half of the smallest second-level cache in use today. Measured with batches of 64 and 512.
constexpr std::size_t kSliceBytes = 128 * 1024;
// With fewer blocks, updating thresholds would take most of the time. Measured at dim 256.
constexpr std::size_t kMinSliceBlocks = 16;
// The slice in which a first threshold is looked for. A larger one gives a better threshold and
// takes longer. Measured with 10,000 items.
constexpr std::size_t kSeedBytes = 512 * 1024;
constexpr std::size_t kSeedBlocks = 256;
// A tile alone would prefetch more than it can hide. Measured at 1,000,000 x 128, batches of 8, 12
// and 64, avx512 and amx-int8.
constexpr std::size_t kSharingTiles = 2;
// Queries that score a slice together; fewer do it one by one. Benchmark: --kind all_equal --batch.
constexpr std::size_t kSharingRuns = 8;
// Scanning nibbles pays while fewer than one item in kNibbleAdvantage has to be scored: batch 1 on
// 200,000 x 64, where nibbles prove most, and on 200,000 x 256, where they prove next to nothing.
constexpr std::size_t kNibbleAdvantage = 16;

// True if a call of Table::many takes as many of so many queries as it can.
bool is_many_queries(const kernels::Table& table, std::size_t n_queries, std::size_t n_groups) {
  const kernels::ManyQueries* many = table.many;
  if (many == nullptr) return false;
  n_queries = std::min(n_queries, many->tile);
  return n_queries >= many->least_queries && n_queries * n_groups >= many->least_products;
}

ScanBuffers& thread_buffers() {
  static thread_local ScanBuffers buffers;
  return buffers;
}

}  // namespace

std::int32_t* ScanBuffers::seed_dots(std::size_t n) {
  if (n > n_seed_dots_) {
    seed_dots_ = Buffer(n * sizeof(std::int32_t));
    n_seed_dots_ = n;
  }
  return seed_dots_.as<std::int32_t>();
}

std::uint8_t* ScanBuffers::wide_codes(std::size_t n_bytes) {
  if (n_bytes > n_wide_codes_) {
    wide_codes_ = Buffer(n_bytes);
    n_wide_codes_ = n_bytes;
  }
  return wide_codes_.as<std::uint8_t>();
}

bool QueryRun::refresh_bound() {
  float known = std::max({assumed, best.threshold(), least.threshold()});
  if (shared != nullptr) known = std::max(known, shared->get());
  if (known == needed && has_threshold()) return false;
  needed = known;
  bound = query->bound_for(known);
  return true;
}

Scanner::Scanner(const Snapshot& snapshot, const kernels::Table& table)
    : snapshot_(snapshot), table_(table), buffers_(thread_buffers()) {
  buffers_.hits.resize(kMaxScanBlocks * kBlockItems * kernels::kMaxTile);
}

bool Scanner::is_candidate(const SegmentView& view, std::size_t slot, const QueryRun& run) const {
  return view.is_alive(slot) && run.query->may_return(view.segment->row_at(slot));
}

bool Scanner::rescore(const SegmentView& view, QueryRun& run, bool is_pause) {
  return view.segment->vectors.file != nullptr ? leave_unread(view, run, is_pause)
                                               : score_pending(view, run, is_pause);
}

bool Scanner::score_pending(const SegmentView& view, QueryRun& run, bool is_pause) {
  Pending& pending = run.pending;
  if (pending.size == 0) return false;
  const Segment& segment = *view.segment;
  double sums[Pending::kCapacity];
  exact_sums(table_, snapshot_.metric, segment.vectors, run.query->exact(), pending.slots, 0,
             pending.size, sums);
  for (std::size_t i = 0; i < pending.size; ++i) {
    run.best.push({to_score(snapshot_.metric, sums[i]),
                   segment.row_at(static_cast<std::size_t>(pending.slots[i]))});
  }
  pending.size = 0;
  run.best.settle(is_pause && !run.has_assumption());
  if (run.shared != nullptr) run.shared->raise(run.best.threshold());
  return run.refresh_bound();
}

void Scanner::update_thresholds(const SegmentView& view, std::size_t first, std::size_t n_blocks,
                                Tile& tile, std::size_t q) const {
  const PackedItems& packed = view.segment->packed;
  const QueryRun& run = *tile.runs[q];
  const kernels::QueryBound bound =
      tile.by_nibbles ? run.query->nibble_bound(run.bound) : run.bound;
  const kernels::BlockStats stats =
      tile.by_nibbles ? packed.nibble_block_stats() : packed.block_stats();
  table_.thresholds(&stats, first, n_blocks, &bound, tile.thresholds[q]);
}

bool Scanner::take(const SegmentView& view, std::size_t position, std::int32_t dot, QueryRun& run) {
  const PackedItems& packed = view.segment->packed;
  if (position >= packed.n_items) return false;  // padding of the last block
  const std::size_t slot = packed.slot_at(position);
  if (!is_candidate(view, slot, run)) return false;
  view.segment->vectors.prefetch(slot);
  Pending& pending = run.pending;
  if (pending.size == Pending::kCapacity) rescore(view, run, false);
  pending.slots[pending.size] = static_cast<std::int64_t>(slot);
  if (view.segment->vectors.file != nullptr) {
    pending.ranges[pending.size] = score_range(packed, position, dot, run);
  }
  ++pending.size;
  return true;
}

std::int32_t Scanner::code_dot(const PackedItems& packed, std::size_t position, const QueryRun& run,
                               std::int32_t high_dot) {
  const std::size_t block = position / kBlockItems;
  const std::size_t item = position % kBlockItems * kernels::kGroupDims;
  const std::int8_t* query = run.query->codes();
  std::int32_t dot = 0;
  if (packed.codes != nullptr) {
    const std::uint8_t* code = packed.codes + block * packed.block_bytes() + item;
    for (std::size_t g = 0; g < packed.n_groups; ++g) {
      for (std::size_t d = 0; d < kernels::kGroupDims; ++d) {
        dot += static_cast<std::int32_t>(code[d]) * query[d];
      }
      code += kernels::kGroupBytes, query += kernels::kGroupDims;
    }
    return dot;
  }
  const std::uint8_t* quarters = packed.quarters + block * packed.quarter_block_bytes() + item;
  for (std::size_t g = 0; g < packed.n_groups; ++g, query += kernels::kGroupDims) {
    const std::uint8_t* low = quarters + g / 4 * kernels::kGroupBytes;
    for (std::size_t d = 0; d < kernels::kGroupDims; ++d) {
      dot += static_cast<std::int32_t>(low[d] >> g % 4 * 2 & 3) * query[d];
    }
  }
  return 4 * high_dot + dot;
}

void Scanner::prefetch_code(const PackedItems& packed, std::size_t position) {
  const std::size_t block = position / kBlockItems;
  const std::size_t item = position % kBlockItems * kernels::kGroupDims;
  const bool is_whole = packed.codes != nullptr;
  const std::uint8_t* code = is_whole ? packed.codes + block * packed.block_bytes()
                                      : packed.quarters + block * packed.quarter_block_bytes();
  const std::size_t n = is_whole ? packed.n_groups : quads_for(packed.n_groups);
  for (std::size_t g = 0; g < n; ++g) __builtin_prefetch(code + g * kernels::kGroupBytes + item);
}

void Scanner::take_hit(const SegmentView& view, std::size_t first, std::size_t n_blocks, Tile& tile,
                       std::uint32_t q, std::size_t item, std::int32_t dot) {
  if (dot <= tile.thresholds[q][item / kBlockItems]) return;
  QueryRun& run = *tile.runs[q];
  const PackedItems& packed = view.segment->packed;
  const std::size_t position = first * kBlockItems + item;
  if (tile.by_nibbles && judges_by_codes(packed)) {
    dot = code_dot(packed, position, run, dot);
    const kernels::BlockStats stats = packed.block_stats();
    std::int32_t threshold = 0;
    table_.thresholds(&stats, position / kBlockItems, 1, &run.bound, &threshold);
    if (dot <= threshold) {
      run.n_candidates += packed.codes != nullptr;  // scan_alone counts what nibbles leave
      return;
    }
  }
  const float needed = run.needed;
  if (!take(view, position, dot, run)) return;
  ++run.n_candidates;
  if (run.needed != needed) update_thresholds(view, first, n_blocks, tile, q);
}

std::size_t Scanner::tile_size(std::size_t n_groups, std::size_t n_runs) const {
  const bool is_many = is_many_queries(table_, n_runs, n_groups);
  return std::min(n_runs, is_many ? table_.many->tile : table_.query_tile);
}

Scanner::Tile Scanner::tile_of(std::size_t n_groups, QueryRun* const* runs, std::size_t n_runs,
                               bool is_many) {
  Tile tile;
  tile.runs = runs;
  tile.n_runs = n_runs;
  tile.codes = runs[0]->query->codes();
  if (is_many || n_runs > 1) {
    const std::int8_t* codes[kernels::kMaxTile];
    for (std::size_t q = 0; q < n_runs; ++q) codes[q] = runs[q]->query->codes();
    std::vector<std::int8_t>& packed = buffers_.tile_codes;
    packed.resize(is_many ? table_.many->packed_bytes(n_groups, n_runs)
                          : n_groups * n_runs * kernels::kGroupDims);
    if (is_many) {
      table_.many->pack(codes, n_runs, n_groups, packed.data());
    } else {
      interleave(codes, n_runs, n_groups, packed.data());
    }
    tile.codes = packed.data();
  }
  for (std::size_t q = 0; q < n_runs; ++q) runs[q]->refresh_bound();
  return tile;
}

void Scanner::scan_slice(const SegmentView& view, std::size_t first, std::size_t end,
                         QueryRun* const* runs, std::size_t n_runs, kernels::Ahead ahead,
                         bool by_nibbles) {
  const PackedItems& packed = view.segment->packed;
  const bool is_many = is_many_queries(table_, n_runs, packed.n_groups);
  Tile tile = tile_of(packed.n_groups, runs, n_runs, is_many);
  tile.by_nibbles = by_nibbles;
  if (by_nibbles) tile.codes = runs[0]->query->nibble_codes();
  const auto scan = is_many ? table_.many->scan : table_.scan;
  std::size_t n_blocks;
  for (std::size_t b = first; b < end; b += n_blocks) {
    n_blocks = std::min(end - b, kMaxScanBlocks);
    for (std::size_t q = 0; q < n_runs; ++q) {
      runs[q]->refresh_bound();
      update_thresholds(view, b, n_blocks, tile, q);
    }
    Hit* hits = buffers_.hits.data();
    const std::size_t n_hits =
        by_nibbles ? table_.scan_nibbles(packed.nibbles + b * packed.nibble_block_bytes(), n_blocks,
                                         packed.n_groups, tile.codes, tile.thresholds[0], hits)
                   : scan(codes_at(packed, b), n_blocks, packed.n_groups, tile.codes, n_runs,
                          tile.thresholds[0], ahead, hits);
    ahead.codes += n_blocks * ahead.n_bytes;
    // The rows of earlier hits, which came meanwhile.
    for (std::size_t q = 0; q < n_runs; ++q) {
      if (rescore(view, *runs[q])) update_thresholds(view, b, n_blocks, tile, q);
    }
    if (by_nibbles && judges_by_codes(packed)) {
      for (std::size_t i = 0; i < n_hits; ++i) {
        prefetch_code(packed, b * kBlockItems + hits[i].item);
      }
    }
    for (std::size_t i = 0; i < n_hits; ++i) {
      take_hit(view, b, n_blocks, tile, hits[i].query, hits[i].item, hits[i].dot);
    }
  }
}

// Each slice is visited once by every run: those that skip the scan score it, those without a
// threshold look for one in it, the others scan it. What a slice has shown decides on the next.
void Scanner::scan(const SegmentView& view, std::size_t first, std::size_t end,
                   std::vector<QueryRun*>& runs) {
  const PackedItems& packed = view.segment->packed;
  const std::size_t block_bytes = packed.block_bytes();
  std::vector<QueryRun*>& seeded = buffers_.seeded;
  std::vector<QueryRun*>& scanned = buffers_.scanned;
  std::vector<QueryRun*>& scored = buffers_.scored;
  std::size_t slice_end;
  for (std::size_t b = first; b < end; b = slice_end) {
    seeded.clear();
    for (QueryRun* run : runs) {
      run->refresh_bound();
      if (run->n_slices_to_score == 0 && !run->has_threshold()) seeded.push_back(run);
    }
    const std::size_t n_blocks = seeded.empty() ? kSliceBytes / block_bytes
                                                : std::min(kSeedBlocks, kSeedBytes / block_bytes);
    slice_end = std::min(end, b + std::max(kMinSliceBlocks, n_blocks));
    scanned.clear();
    scored.clear();
    for (QueryRun* run : runs) {
      if (run->n_slices_to_score > 0) {
        --run->n_slices_to_score;
        scored.push_back(run);
      } else if (run->has_threshold()) {
        scanned.push_back(run);
      }
    }
    if (scored.size() >= kSharingRuns) {
      score_together(view, b, slice_end, scored);
    } else {
      for (QueryRun* run : scored) score_slice(view, b, slice_end, *run);
    }
    const bool is_alone = scanned.size() == 1 && packed.nibbles != nullptr;
    if (packed.codes == nullptr && (!seeded.empty() || (!scanned.empty() && !is_alone))) {
      widen(packed, b, slice_end);
    }
    for (std::size_t q = 0; q < seeded.size(); q += table_.query_tile) {
      seed_slice(view, b, slice_end, seeded.data() + q,
                 std::min(table_.query_tile, seeded.size() - q));
    }
    if (is_alone) {
      scan_alone(view, b, slice_end, *scanned[0]);
    } else {
      scan_tiles(view, b, slice_end, end);
    }
    for (QueryRun* run : runs) {
      if (2 * run->n_candidates > (slice_end - b) * kBlockItems) {
        run->n_slices_to_score = kScoredSlices;
      }
      run->n_candidates = 0;
    }
  }
  for (QueryRun* run : runs) rescore(view, *run);
}

void Scanner::widen(const PackedItems& packed, std::size_t first, std::size_t end) {
  std::uint8_t* out = buffers_.wide_codes((end - first) * packed.block_bytes());
  widened_ = out;
  first_widened_ = first;
  const std::uint8_t* quarters =
      packed.quarters == nullptr ? nullptr : packed.quarters + first * packed.quarter_block_bytes();
  table_.widen(packed.nibbles + first * packed.nibble_block_bytes(), quarters, end - first,
               packed.n_groups, out);
}

// The first tile would wait for the codes of every slice: the tiles of the slice before, which find
// theirs in the cache, share the work of asking for them. Of six-bit codes the first tile asks for
// the low bits, the others for the high ones.
void Scanner::scan_tiles(const SegmentView& view, std::size_t first, std::size_t end,
                         std::size_t last) {
  const PackedItems& packed = view.segment->packed;
  const std::vector<QueryRun*>& runs = buffers_.scanned;
  std::size_t n_tiles = 0;
  for (std::size_t q = 0; q < runs.size(); q += tile_size(packed.n_groups, runs.size() - q))
    ++n_tiles;
  const bool is_short = packed.codes == nullptr;
  const std::size_t block_bytes = is_short ? packed.nibble_block_bytes() : packed.block_bytes();
  const std::uint8_t* next = (is_short ? packed.nibbles : packed.codes) + end * block_bytes;
  const auto ahead_of = [&](std::size_t tile) -> kernels::Ahead {
    if (end == last || n_tiles < kSharingTiles) return {next, 0};
    std::size_t n_sharing = n_tiles;
    if (packed.quarters != nullptr) {
      const std::size_t n_bytes = packed.quarter_block_bytes();
      if (tile == 0) return {packed.quarters + end * n_bytes, n_bytes};
      --tile, --n_sharing;
    }
    const std::size_t share = (block_bytes + n_sharing - 1) / n_sharing;
    const std::size_t n_lines = (share + kernels::kCacheLine - 1) / kernels::kCacheLine;
    const std::size_t n_bytes = n_lines * kernels::kCacheLine;
    return {next + tile * (end - first) * n_bytes, n_bytes};
  };
  std::size_t q = 0;
  for (std::size_t tile = 0; tile < n_tiles; ++tile) {
    const std::size_t n_runs = tile_size(packed.n_groups, runs.size() - q);
    scan_slice(view, first, end, runs.data() + q, n_runs, ahead_of(tile));
    q += n_runs;
  }
}

// One query waits for memory: nibbles are half the bytes, where they prove enough. After a chunk
// where they do not, codes are scanned for a while before the next try. That pause doubles with
// every try in vain, as most data either suits nibbles or never does: of n chunks only about
// log2(n / kScoredSlices) are then scanned for nothing. The pause goes on in the next segment.
void Scanner::scan_alone(const SegmentView& view, std::size_t first, std::size_t end,
                         QueryRun& run) {
  QueryRun* runs[] = {&run};
  std::size_t n_blocks;
  for (std::size_t b = first; b < end; b += n_blocks) {
    n_blocks = std::min(end - b, kMaxScanBlocks);
    const bool is_only = view.segment->packed.codes == nullptr;
    const bool by_nibbles = is_only || run.n_chunks_to_code == 0;
    const std::size_t n_before = run.n_candidates;
    scan_slice(view, b, b + n_blocks, runs, 1, {}, by_nibbles);
    if (is_only) continue;
    if (!by_nibbles) {
      --run.n_chunks_to_code;
      continue;
    }
    if (kNibbleAdvantage * (run.n_candidates - n_before) > n_blocks * kBlockItems) {
      run.n_chunks_to_code = run.nibble_pause;
      run.nibble_pause *= 2;
    }
    run.n_candidates = n_before;  // those of nibbles say nothing about the codes
  }
}

}  // namespace shortlist
