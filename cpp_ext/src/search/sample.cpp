// A threshold before the scan, for long lists. The N-th score of a first slice says little of a
// large N: for every item of the answer, several are scored that do not stay. A sample of all items
// says about which score the N-th one has. It is a little lower than that with all but certainty;
// where it is not, fewer than N items reach it in the end, and the query is searched again.
#include <algorithm>
#include <cmath>
#include <limits>

#include "src/search/cutoff.hpp"
#include "src/search/scan.hpp"

namespace shortlist {

using kernels::kBlockItems;
using kernels::kMaximaLanes;

namespace {

// The benchmark of these numbers: benchmarks/top_n.py --top-n 1000.

// Shorter lists find a good threshold in the first slice.
constexpr std::size_t kLeastRanks = 200;
constexpr std::size_t kSampleBlocks = 256;
// Of a smaller catalogue the sample would be most.
constexpr std::size_t kLeastStride = 3;
// The assumed score has a rank so many standard errors behind the estimated one.
constexpr double kErrors = 3;
// A smaller effect of blocks is not worth a second look at the sample.
constexpr double kSmallEffect = 1.2;

// By how much the numbers of items in a block that reach a score vary more than chance would make
// them: the variance of an estimate from blocks is so many times that from single items (Kish,
// Survey Sampling, 1965: the design effect), or a little less.
double design_effect(const ScoreSample& sample, float score) {
  double sum = 0, squares = 0;
  std::size_t first = 0;
  for (const std::size_t end : sample.ends) {
    std::size_t n_reaching = 0;
    for (std::size_t i = first; i < end; ++i) n_reaching += sample.scores[i] >= score;
    const auto n = static_cast<double>(n_reaching);
    sum += n;
    squares += n * n;
    first = end;
  }
  const double mean = sum / static_cast<double>(sample.ends.size());
  return std::max(1.0, squares / sum - mean);
}

// A score that so many items reach of which n_expected are in the sample, all but certainly;
// -infinity where the sample is too small to say.
float assumed_score(const ScoreSample& sample, double n_expected) {
  const auto score_for = [&](double effect) {
    const double rank = std::ceil(n_expected + kErrors * std::sqrt(effect * n_expected));
    return rank > static_cast<double>(sample.scores.size())
               ? -std::numeric_limits<float>::infinity()
               : cutoff_for(sample.scores, static_cast<std::size_t>(rank));
  };
  const float score = score_for(1);
  const double effect = design_effect(sample, score);
  return effect > kSmallEffect ? score_for(effect) : score;
}

}  // namespace

void Scanner::assume(const std::vector<QueryRun*>& runs) {
  std::vector<QueryRun*> long_lists;
  for (QueryRun* run : runs) {
    if (run->best.capacity() >= kLeastRanks) long_lists.push_back(run);
  }
  if (long_lists.empty()) return;
  std::size_t n_blocks = 0;
  for (const SegmentView& view : snapshot_.segments) n_blocks += view.segment->packed.n_blocks;
  const std::size_t stride = n_blocks / kSampleBlocks;
  if (stride < kLeastStride) return;
  std::size_t n_runs;
  for (std::size_t q = 0; q < long_lists.size(); q += n_runs) {
    n_runs = std::min(table_.query_tile, long_lists.size() - q);
    sample_blocks(stride, long_lists.data() + q, n_runs);
    for (std::size_t i = 0; i < n_runs; ++i) {
      QueryRun& run = *long_lists[q + i];
      const auto n_ranks = static_cast<double>(run.best.capacity());
      const float about = assumed_score(buffers_.samples[i], n_ranks / static_cast<double>(stride));
      run.assumed = run.query->score_of(static_cast<double>(about));
    }
  }
}

// Every stride-th block of all segments, for up to query_tile runs.
void Scanner::sample_blocks(std::size_t stride, QueryRun* const* runs, std::size_t n_runs) {
  std::vector<ScoreSample>& samples = buffers_.samples;
  samples.resize(std::max(samples.size(), n_runs));
  for (std::size_t q = 0; q < n_runs; ++q) {
    samples[q].scores.clear();
    samples[q].ends.clear();
  }
  std::int32_t* dots = buffers_.seed_dots(n_runs * (kBlockItems + kMaximaLanes));
  std::size_t block = 0;  // the next one, in the segment at hand
  for (const SegmentView& view : snapshot_.segments) {
    const PackedItems& packed = view.segment->packed;
    const Tile tile = tile_of(packed.n_groups, runs, n_runs);
    for (; block < packed.n_blocks; block += stride) {
      if (packed.codes == nullptr) widen(packed, block, block + 1);
      table_.dots(codes_at(packed, block), 1, packed.n_groups, tile.codes, n_runs, dots,
                  dots + n_runs * kBlockItems);
      for (std::size_t q = 0; q < n_runs; ++q) {
        add_to_sample(view, block, dots + q * kBlockItems, *runs[q], samples[q]);
      }
    }
    block -= packed.n_blocks;
  }
}

void Scanner::add_to_sample(const SegmentView& view, std::size_t block, const std::int32_t* dots,
                            const QueryRun& run, ScoreSample& sample) const {
  const PackedItems& packed = view.segment->packed;
  float about[kBlockItems];
  estimate(packed, block, 1, dots, run, about);
  const std::size_t first = block * kBlockItems, n = std::min(kBlockItems, packed.n_items - first);
  if (view.tombstones == nullptr && !run.query->is_filtered()) {
    sample.scores.insert(sample.scores.end(), about, about + n);
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      if (is_candidate(view, packed.slot_at(first + i), run)) sample.scores.push_back(about[i]);
    }
  }
  sample.ends.push_back(sample.scores.size());
}

}  // namespace shortlist
