#include "src/search/search.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <limits>

#include "shortlist/thread_pool.hpp"
#include "src/kernels/simd.hpp"
#include "src/search/query.hpp"
#include "src/search/scan.hpp"

namespace shortlist {
namespace {

// The benchmark of these numbers: benchmarks/top_n.py --grid --threads 1 all.

// Queries that pass over the items together, about: batches of 512.
constexpr std::size_t kGroupQueries = 128;
// Below this many multiply-adds per thread, waking a thread costs more than it saves: 10,000 items.
constexpr std::size_t kWorkPerThread = 2'000'000;
// With fewer queries per thread, threads share the items instead: batches of 1, 8 and 64.
constexpr std::size_t kQueriesPerThread = 16;
// Blocks that a thread takes at a time when threads share the items: batch 1.
constexpr std::size_t kBlocksPerTask = 128;
// A segment this small is scored exactly without a scan: --n-items 96.
constexpr std::size_t kSmallCatalogue = 96;
// Of a long call that may be interrupted: multiply-adds until its speed is known, and seconds then.
constexpr double kWorkOfFirstPart = 1e9;
constexpr double kSecondsOfPart = 0.2;

std::size_t ceil_div(std::size_t n, std::size_t divisor) {
  return (n + divisor - 1) / divisor;
}

void write_hits(const std::vector<std::uint64_t>& keys, std::size_t query, std::size_t top_n,
                const SearchOutput& output) {
  constexpr Neighbor kNone = {-std::numeric_limits<float>::infinity(), -1};
  for (std::size_t rank = 0; rank < top_n; ++rank) {
    const Neighbor hit = rank < keys.size() ? neighbor_of(keys[rank]) : kNone;
    output.scores[query * top_n + rank] = hit.score;
    output.rows[query * top_n + rank] = hit.row;
  }
  output.counts[query] = static_cast<std::int64_t>(keys.size());
}

// One call, on one snapshot.
class Search {
 public:
  Search(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
         const Filter& filter, const SearchOutput& output)
      : snapshot_(snapshot),
        queries_(queries),
        top_n_(top_n),
        filter_(filter),
        shared_allows_(filter, queries.n_rows, snapshot.n_rows),
        output_(output),
        table_(active_kernels()) {}

  // With many queries every thread takes a group of them over all items, then the next group. With
  // few, all threads take a group together: they share the items, and tell each other the N-th
  // scores that they have found.
  void run(std::size_t begin, std::size_t end, std::size_t n_threads) const {
    const std::size_t n_queries = end - begin;
    const double work = static_cast<double>(n_queries) * static_cast<double>(snapshot_.n_items) *
                        static_cast<double>(snapshot_.dim);
    const double useful = std::max(1.0, work / static_cast<double>(kWorkPerThread));
    if (static_cast<double>(n_threads) > useful) n_threads = static_cast<std::size_t>(useful);
    if (n_threads > 1 && n_queries < kQueriesPerThread * n_threads) {
      for (std::size_t q = begin; q < end; q += kGroupQueries) {
        split_items(q, std::min(end, q + kGroupQueries), n_threads);
      }
      return;
    }
    // As many groups for each thread, all of about the same size: every group reads all items.
    const std::size_t per_thread =
        std::max<std::size_t>(1, ceil_div(n_queries, n_threads * kGroupQueries));
    const std::size_t tile = table_.many != nullptr && n_queries > table_.many->tile
                                 ? table_.many->tile
                                 : table_.query_tile;
    const std::size_t group = ceil_div(ceil_div(n_queries, n_threads * per_thread), tile) * tile;
    const std::size_t n_groups = n_queries == 0 ? 0 : ceil_div(n_queries, group);
    std::atomic<std::size_t> next{0};
    parallel_for(std::min(n_threads, n_groups), [&](std::size_t) {
      Scanner scanner(snapshot_, table_);
      for (std::size_t g = next.fetch_add(1); g < n_groups; g = next.fetch_add(1)) {
        search_group(begin + g * group, std::min(end, begin + (g + 1) * group), scanner);
      }
    });
  }

  // The same for all queries, with a word in between. Parts are full groups for each thread, so
  // that a part costs what it would cost in one go.
  void run_in_parts(std::size_t n_threads, const std::function<void()>& between) const {
    using Clock = std::chrono::steady_clock;
    const std::size_t n_queries = queries_.n_rows, least = n_threads * kGroupQueries;
    const double work =
        std::max(1.0, static_cast<double>(snapshot_.n_items) * static_cast<double>(snapshot_.dim));
    double size = kWorkOfFirstPart / work;
    for (std::size_t first = 0; first < n_queries;) {
      const double n_left = static_cast<double>(n_queries - first);
      std::size_t end = n_queries;
      if (1.5 * size < n_left) {  // else one part, and no small one at the end
        end = first + std::max(least, static_cast<std::size_t>(size) / least * least);
        end = std::min(end, n_queries);
      }
      const auto start = Clock::now();
      run(first, end, n_threads);
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      size = static_cast<double>(end - first) * kSecondsOfPart / std::max(1e-4, seconds);
      first = end;
      if (first < n_queries) between();
    }
  }

 private:
  std::deque<PreparedQuery> prepare(std::size_t first, std::size_t end) const {
    std::deque<PreparedQuery> prepared;
    for (std::size_t q = first; q < end; ++q) {
      prepared.emplace_back(snapshot_, table_, queries_.row(q), filter_, shared_allows_.of(q), q);
    }
    return prepared;
  }

  std::size_t capacity_for(const PreparedQuery& query) const {
    return std::max<std::size_t>(1, std::min(top_n_, query.n_allowed()));
  }

  bool is_scanned(const Segment& segment) const {
    return !segment.packed.is_empty() && segment.vectors.n_rows > kSmallCatalogue;
  }

  // The runs that have no short list.
  template <typename Runs>
  static std::vector<QueryRun*> scanned_of(Runs& runs) {
    std::vector<QueryRun*> scanned;
    for (QueryRun& run : runs) {
      if (run.query->short_list() == nullptr) scanned.push_back(&run);
    }
    return scanned;
  }

  // Queries [first, end) over all items, on this thread: short lists first, then the segments one
  // after another; small ones and the delta are scored exactly.
  void search_group(std::size_t first, std::size_t end, Scanner& scanner) const {
    const std::deque<PreparedQuery> prepared = prepare(first, end);
    std::deque<QueryRun> runs;
    for (const PreparedQuery& query : prepared) {
      runs.emplace_back(query, capacity_for(query), nullptr);
      if (query.short_list() != nullptr) scanner.score_list(runs.back());
    }
    const std::vector<QueryRun*> scanned = scanned_of(runs);
    scanner.assume(scanned);
    scan_segments(scanner, scanned);
    for (std::size_t i = 0; i < runs.size(); ++i) finish_list(scanner, runs[i], first + i);
  }

  // Writes the list of a query, once what was assumed of it is proved.
  void finish_list(Scanner& scanner, QueryRun& run, std::size_t query) const {
    if (!run.holds_assumption()) {
      run = QueryRun(*run.query, run.best.capacity(), nullptr);
      scan_segments(scanner, {&run});
    }
    write_hits(run.best.sort(), query, top_n_, output_);
  }

  void scan_segments(Scanner& scanner, std::vector<QueryRun*> runs) const {
    for (const SegmentView& view : snapshot_.segments) {
      if (is_scanned(*view.segment)) {
        scanner.scan(view, 0, view.segment->packed.n_blocks, runs);
        for (QueryRun* run : runs) scanner.finish(view, *run);
      } else {
        for (QueryRun* run : runs) scanner.score_all(view, 0, view.n_slots, *run);
      }
    }
  }

  // Queries [first, end), the items shared out to n_threads.
  void split_items(std::size_t first, std::size_t end, std::size_t n_threads) const {
    const std::deque<PreparedQuery> prepared = prepare(first, end);
    std::deque<SharedScore> shared(prepared.size());
    std::vector<std::vector<QueryRun>> runs(n_threads);
    for (std::size_t i = 0; i < prepared.size(); ++i) {
      runs[0].emplace_back(prepared[i], capacity_for(prepared[i]), &shared[i]);
    }
    Scanner scanner(snapshot_, table_);
    scanner.assume(scanned_of(runs[0]));
    for (std::size_t thread = 1; thread < n_threads; ++thread) runs[thread] = runs[0];
    std::vector<std::atomic<std::size_t>> next(snapshot_.segments.size() + 1);
    parallel_for(n_threads, [&](std::size_t thread) { search_share(runs[thread], next); });
    for (std::size_t i = 0; i < prepared.size(); ++i) {
      QueryRun& run = runs[0][i];
      for (std::size_t thread = 1; thread < n_threads; ++thread) {
        for (const Neighbor& found : runs[thread][i].best.items()) run.best.push(found);
      }
      finish_list(scanner, run, first + i);
    }
  }

  void search_share(std::vector<QueryRun>& runs,
                    std::vector<std::atomic<std::size_t>>& next) const {
    Scanner scanner(snapshot_, table_);
    std::vector<QueryRun*> scanned = scanned_of(runs);
    std::vector<QueryRun*> listed;
    for (QueryRun& run : runs) {
      if (run.query->short_list() != nullptr) listed.push_back(&run);
    }
    for (std::size_t i = next.back()++; i < listed.size(); i = next.back()++) {
      scanner.score_list(*listed[i]);
    }
    for (std::size_t s = 0; s < snapshot_.segments.size() && !scanned.empty(); ++s) {
      const SegmentView& view = snapshot_.segments[s];
      const bool use_scan = is_scanned(*view.segment);
      const std::size_t size = use_scan ? view.segment->packed.n_blocks : view.n_slots;
      for (std::size_t at = next[s].fetch_add(kBlocksPerTask); at < size;
           at = next[s].fetch_add(kBlocksPerTask)) {
        const std::size_t end = std::min(size, at + kBlocksPerTask);
        if (use_scan) {
          scanner.scan(view, at, end, scanned);
        } else {
          for (QueryRun* run : scanned) scanner.score_all(view, at, end, *run);
        }
      }
      for (QueryRun* run : scanned) scanner.finish(view, *run);
    }
  }

  const Snapshot& snapshot_;
  const MatrixView& queries_;
  const std::size_t top_n_;
  const Filter& filter_;
  const SharedAllows shared_allows_;
  const SearchOutput& output_;
  const kernels::Table& table_;
};

}  // namespace

void search_snapshot(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
                     const Filter& filter, std::size_t n_threads, const SearchOutput& output,
                     const std::function<void()>* between) {
  Search search(snapshot, queries, top_n, filter, output);
  n_threads = n_threads == 0 ? num_threads() : std::min(n_threads, kMaxThreads);
  if (between == nullptr) return search.run(0, queries.n_rows, n_threads);
  search.run_in_parts(n_threads, *between);
}

}  // namespace shortlist
