// The search of one thread: scan cheap, prove, rescore (internal).
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "shortlist/neighbor.hpp"
#include "src/kernels/kernels.hpp"
#include "src/search/query.hpp"
#include "src/segments/snapshot.hpp"
#include "src/system/buffer.hpp"

namespace shortlist {

// The best known N-th score of one query, shared by the threads that search for it. Any thread's
// value prunes items for all, since every thread that raised it holds N items as good.
class SharedScore {
 public:
  float get() const { return score_.load(std::memory_order_relaxed); }
  void raise(float score) {
    float known = get();
    while (score > known &&
           !score_.compare_exchange_weak(known, score, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<float> score_{-std::numeric_limits<float>::infinity()};
};

// In place of the dot product of an item that was taken already; no threshold is below it.
constexpr std::int32_t kTaken = std::numeric_limits<std::int32_t>::min();
// Slices scored without a scan before the bound gets another try, and chunks scanned by codes
// before nibbles get their second. Benchmark: benchmarks/top_n.py --kind all_equal, --kind
// near_duplicates.
constexpr std::size_t kScoredSlices = 15;

// What an item's codes say of its score.
struct ScoreRange {
  double most;   // the bound of u.x - h, as QueryBound::needed is one
  float likely;  // about the score
  float least;   // no score is below
};

// Slots of one query that wait for their exact score. Benchmark: benchmarks/top_n.py --grid.
struct Pending {
  static constexpr std::size_t kCapacity = 32;
  std::int64_t slots[kCapacity];
  ScoreRange ranges[kCapacity];  // of the scores; set where rows are read last
  std::size_t size = 0;
};

// An item whose row is in a file, and read only if no better ones rule it out in the end.
struct Unread {
  double most;  // the bound of u.x - h
  std::int64_t slot;
};

// What one thread found for one query so far.
struct QueryRun {
  QueryRun(const PreparedQuery& prepared, std::size_t top_n, SharedScore* shared_score)
      : query(&prepared), best(top_n), least(top_n), shared(shared_score) {}

  const PreparedQuery* query;
  TopN best;
  TopN least;           // scores that items, read or not, have at least
  SharedScore* shared;  // null when no other thread works on this query
  // A score that so many items reach, by a sample (sample.cpp); what it rules out is ruled out if
  // holds_assumption() in the end.
  float assumed = -std::numeric_limits<float>::infinity();
  float needed = -std::numeric_limits<float>::infinity();
  kernels::QueryBound bound{};
  // Of the segment at hand. Their rows were asked for, and come while other blocks are scanned.
  Pending pending;
  std::vector<Unread> unread;
  // The bound proves nothing where scores lie closer together than it is wide (all rows alike, or
  // nearly): after a slice with mostly candidates, the next ones are scored without a scan.
  std::size_t n_candidates = 0;  // in the slice at hand
  std::size_t n_slices_to_score = 0;
  // Where nibbles prove too little, chunks (up to kMaxScanBlocks of a slice) are scanned by codes
  // before nibbles get another try: each time twice as many.
  std::size_t n_chunks_to_code = 0;
  std::size_t nibble_pause = kScoredSlices;

  // Takes over the highest known N-th score, or what it is at least; false if it has not changed.
  bool refresh_bound();
  // Drops what is unread and ruled out by now.
  void forget();
  bool has_assumption() const { return assumed != -std::numeric_limits<float>::infinity(); }
  // After the last scan.
  bool holds_assumption() const { return !has_assumption() || best.reaches(assumed); }
  bool has_threshold() const { return needed != -std::numeric_limits<float>::infinity(); }
};

// About the scores of a sample of the items that a query may return.
struct ScoreSample {
  std::vector<float> scores;
  std::vector<std::size_t> ends;  // of the blocks in `scores`
};

// Memory that one search leaves to the next one of the same thread.
struct ScanBuffers {
  std::vector<kernels::Hit> hits;
  std::vector<std::int8_t> tile_codes;
  std::vector<float> scores;           // the best of each part of a block, about
  std::vector<unsigned char> buckets;  // of each item of a slice, by such a score
  std::vector<std::uint32_t> chosen;
  std::vector<ScoreSample> samples;  // by query of a tile
  std::vector<std::int64_t> slots;
  std::vector<double> sums;
  std::vector<QueryRun*> seeded;   // the runs that look for a threshold in the slice at hand
  std::vector<QueryRun*> scanned;  // the runs that scan it
  std::vector<QueryRun*> scored;   // the runs that score all of it
  std::vector<const double*> queries;
  std::vector<double> row_tile;

  // Room for the dot products of a slice: aligned, as a store that crosses a cache line costs two.
  std::int32_t* seed_dots(std::size_t n);
  // Room for the codes of a slice, a byte each, where they are stored as short codes.
  std::uint8_t* wide_codes(std::size_t n_bytes);

 private:
  Buffer seed_dots_, wide_codes_;
  std::size_t n_seed_dots_ = 0, n_wide_codes_ = 0;
};

// What is scanned, and when:
// - Blocks are visited in order, in slices. As long as a query has no N-th score it takes a larger
//   slice, whose best items are scored first (seed.cpp): they give a threshold.
// - From then on a slice is scanned in chunks. The kernel reports the items that the threshold does
//   not prune; their rows are asked for at once and scored after the next chunk was scanned, when
//   they have come from memory. A better N-th score raises the thresholds of all chunks that
//   follow.
// - Where most items of a slice were candidates the bound proves nothing, and a scan is wasted: the
//   next kScoredSlices slices are scored without one. Then it gets another try, as other items may
//   lie further apart. A try costs a slice in 16, so there the pause stays the same.
// - Rows in a file are read last: until then a range of scores, from the codes, stands for each
//   candidate, and its lower end makes the thresholds. In the end they are read in the order of the
//   upper ends, as long as these reach the N-th score (unread.cpp).
// - A query that is alone scans nibbles where there are some (scan_alone).
class Scanner {
 public:
  Scanner(const Snapshot& snapshot, const kernels::Table& table);

  // Long lists, of more than a few hundred: gives the runs a threshold before the scan where a
  // sample of the items suggests one.
  void assume(const std::vector<QueryRun*>& runs);
  // All items of blocks [first, end) of a segment, for all runs. Blocks are visited in slices that
  // stay in the second-level cache while every query passes over them.
  void scan(const SegmentView& view, std::size_t first, std::size_t end,
            std::vector<QueryRun*>& runs);
  // Reads the rows of a segment that were left for the end. After the last scan of it.
  void finish(const SegmentView& view, QueryRun& run);
  // Scores all slots [first, end) of a segment exactly; for catalogues not worth packing.
  void score_all(const SegmentView& view, std::size_t first, std::size_t end, QueryRun& run);
  // Scores exactly the rows of the query's short list.
  void score_list(QueryRun& run);

 private:
  // The queries that pass over a slice together, and their thresholds for the blocks at hand.
  struct Tile {
    QueryRun* const* runs;
    std::size_t n_runs;
    const std::int8_t* codes;  // [n_groups][n_runs][4], or as ManyQueries::pack lays them
    bool by_nibbles = false;   // one run only
    std::int32_t thresholds[kernels::kMaxTile][kernels::kMaxScanBlocks];
  };
  // Blocks first .. first + n_blocks - 1 and the dot products of one query with their items.
  struct SeedSlice {
    std::size_t first, n_blocks;
    std::int32_t* dots;          // [n_blocks][kBlockItems]
    const std::int32_t* maxima;  // [n_blocks][kMaximaLanes]
  };
  void scan_slice(const SegmentView& view, std::size_t first, std::size_t end,
                  QueryRun* const* runs, std::size_t n_runs, kernels::Ahead ahead,
                  bool by_nibbles = false);
  // Blocks [first, end) for all runs that scan them; a slice follows unless end is last.
  void scan_tiles(const SegmentView& view, std::size_t first, std::size_t end, std::size_t last);
  // The codes of a block, a byte each: of the slice at hand where they are stored as short codes.
  const std::uint8_t* codes_at(const PackedItems& packed, std::size_t block) const {
    return packed.codes != nullptr ? packed.codes + block * packed.block_bytes()
                                   : widened_ + (block - first_widened_) * packed.block_bytes();
  }
  // Makes a slice of short codes bytes, once for all queries.
  void widen(const PackedItems& packed, std::size_t first, std::size_t end);
  void scan_alone(const SegmentView& view, std::size_t first, std::size_t end, QueryRun& run);
  // Scores every item of blocks [first, end) exactly; where their dot products are given, all but
  // those taken.
  void score_slice(const SegmentView& view, std::size_t first, std::size_t end, QueryRun& run,
                   const std::int32_t* dots = nullptr);
  // The same for several runs, which share the widening of a row.
  void score_together(const SegmentView& view, std::size_t first, std::size_t end,
                      const std::vector<QueryRun*>& runs);
  void push_sums(const SegmentView& view, const double* sums, const std::int64_t* slots,
                 std::size_t first, std::size_t n, QueryRun& run, std::int64_t least_row = 0);
  // Runs of the next tile, of n_runs that are left.
  std::size_t tile_size(std::size_t n_groups, std::size_t n_runs) const;
  Tile tile_of(std::size_t n_groups, QueryRun* const* runs, std::size_t n_runs,
               bool is_many = false);
  // Like scan_slice, for runs without a threshold: in three passes, the first two of which find
  // one.
  void seed_slice(const SegmentView& view, std::size_t first, std::size_t end,
                  QueryRun* const* runs, std::size_t n_runs);
  void take_best(const SegmentView& view, const SeedSlice& slice, QueryRun& run);
  std::size_t take_between(const SegmentView& view, const SeedSlice& slice, std::size_t n_parts,
                           float cutoff, float above, std::size_t n_limit, QueryRun& run);
  void take_best_items(const SegmentView& view, const SeedSlice& slice, std::size_t n_wanted,
                       QueryRun& run);
  std::size_t take_items(const SegmentView& view, const SeedSlice& slice, std::size_t first,
                         std::size_t end, QueryRun& run);
  static void estimate(const PackedItems& packed, std::size_t first, std::size_t n_blocks,
                       const std::int32_t* dots, const QueryRun& run, float* scores);
  void collect(const SegmentView& view, const SeedSlice& slice, Tile& tile, std::size_t q);
  void sample_blocks(std::size_t stride, QueryRun* const* runs, std::size_t n_runs);
  void add_to_sample(const SegmentView& view, std::size_t block, const std::int32_t* dots,
                     const QueryRun& run, ScoreSample& sample) const;
  // Lets the item at a position of the packed items, whose codes give that dot product, wait for
  // its score; false if it is none that the query may return.
  bool take(const SegmentView& view, std::size_t position, std::int32_t dot, QueryRun& run);
  ScoreRange score_range(const PackedItems& packed, std::size_t position, std::int32_t dot,
                         const QueryRun& run) const;
  // A read of the disk costs more than the rest of a code: what nibbles leave is judged by that.
  bool judges_by_codes(const PackedItems& packed) const {
    return has_rows_on_disk(snapshot_.storage) &&
           (packed.codes != nullptr || packed.quarters != nullptr);
  }
  static void prefetch_code(const PackedItems& packed, std::size_t position);
  // The dot product of a whole code of six or eight bits; of six, given that of the high four.
  static std::int32_t code_dot(const PackedItems& packed, std::size_t position, const QueryRun& run,
                               std::int32_t high_dot);
  // Takes one hit unless the bound has moved past it meanwhile.
  void take_hit(const SegmentView& view, std::size_t first, std::size_t n_blocks, Tile& tile,
                std::uint32_t q, std::size_t item, std::int32_t dot);
  void update_thresholds(const SegmentView& view, std::size_t first, std::size_t n_blocks,
                         Tile& tile, std::size_t q) const;
  // Scores what is pending; true if the N-th score has changed. No pause: more is to come soon.
  bool score_pending(const SegmentView& view, QueryRun& run, bool is_pause = true);
  // The same of a scan, which leaves rows in a file for the end.
  bool rescore(const SegmentView& view, QueryRun& run, bool is_pause = true);
  bool leave_unread(const SegmentView& view, QueryRun& run, bool is_pause);
  bool is_candidate(const SegmentView& view, std::size_t slot, const QueryRun& run) const;

  const Snapshot& snapshot_;
  const kernels::Table& table_;
  ScanBuffers& buffers_;
  const std::uint8_t* widened_ = nullptr;
  std::size_t first_widened_ = 0;
};

}  // namespace shortlist
