#include "src/search/value_bounds.hpp"

#include <algorithm>
#include <limits>

#include "src/search/cutoff.hpp"

namespace shortlist {

using kernels::kBlockItems;
using kernels::kMaximaLanes;

namespace {

// Blocks whose dot products are computed at a time: they stay in the first-level cache.
constexpr std::size_t kBlocksAtOnce = 8;

}  // namespace

ValueBounds::ValueBounds(const Snapshot& snapshot, const kernels::Table& table, double diversity)
    : snapshot_(snapshot), table_(table), diversity_(static_cast<float>(diversity)) {
  std::size_t n_items = 0;
  for (const SegmentView& view : snapshot.segments) {
    if (view.segment->packed.is_empty()) continue;
    parts_.push_back({&view, n_items});
    n_items += view.segment->packed.n_blocks * kBlockItems;
  }
  relevance_.resize(n_items);
  likeness_.assign(n_items, -std::numeric_limits<float>::infinity());
}

bool ValueBounds::are_known(const Snapshot& snapshot) {
  return snapshot.metric != Metric::euclidean && !is_approximate(snapshot.storage) &&
         !has_short_codes(snapshot.storage);
}

void ValueBounds::count(const std::vector<const float*>& vectors) {
  for (std::size_t first = 0; first < vectors.size(); first += table_.query_tile) {
    const std::size_t end = std::min(vectors.size(), first + table_.query_tile);
    std::vector<PreparedQuery> queries;
    queries.reserve(end - first);
    for (std::size_t i = first; i < end; ++i) {
      queries.emplace_back(snapshot_, table_, vectors[i], Filter(), SharedAllow(), 0);
    }
    for (const Part& part : parts_) count_part(part, queries, n_counted_ == 0);
    n_counted_ += queries.size();
  }
}

void ValueBounds::count_part(const Part& part, const std::vector<PreparedQuery>& queries,
                             bool has_query) {
  const PackedItems& packed = part.view->segment->packed;
  const kernels::BlockStats stats = packed.block_stats();
  const std::size_t n_queries = queries.size();
  std::vector<std::int8_t> codes(packed.n_groups * n_queries * kernels::kGroupDims);
  std::vector<const std::int8_t*> own;
  std::vector<kernels::QueryBound> bounds;
  for (const PreparedQuery& query : queries) {
    own.push_back(query.codes());
    bounds.push_back(query.bound_for(0));
  }
  interleave(own.data(), n_queries, packed.n_groups, codes.data());
  std::vector<std::int32_t> dots(n_queries * kBlocksAtOnce * kBlockItems);
  std::vector<std::int32_t> maxima(n_queries * kBlocksAtOnce * kMaximaLanes);
  std::size_t n_blocks;
  for (std::size_t first = 0; first < packed.n_blocks; first += n_blocks) {
    n_blocks = std::min(kBlocksAtOnce, packed.n_blocks - first);
    table_.dots(packed.codes + first * packed.block_bytes(), n_blocks, packed.n_groups,
                codes.data(), n_queries, dots.data(), maxima.data());
    for (std::size_t q = 0; q < n_queries; ++q) {
      const kernels::QueryBound& bound = bounds[q];
      const auto offset = static_cast<std::int32_t>(bound.offset);
      for (std::size_t b = 0; b < n_blocks; ++b) {
        const std::size_t block = first + b;
        const double step = stats.inverse_scale[block] * bound.inverse_scale;
        const auto unit = static_cast<float>(step > 0 ? 1 / step : 0.0);  // 0: so are the codes
        const auto error = static_cast<float>(bound.norm * stats.residual[block] +
                                              bound.residual * stats.code_norm[block]);
        const std::int32_t* const dot = dots.data() + (q * n_blocks + b) * kBlockItems;
        const std::size_t at = part.first + block * kBlockItems;
        if (q == 0 && has_query) {
          float* const relevance = relevance_.data() + at;
          for (std::size_t i = 0; i < kBlockItems; ++i) {
            relevance[i] = static_cast<float>(dot[i] - offset) * unit + error;
          }
        } else {
          float* const likeness = likeness_.data() + at;
          for (std::size_t i = 0; i < kBlockItems; ++i) {
            const float least = static_cast<float>(dot[i] - offset) * unit - error;
            likeness[i] = likeness[i] > least ? likeness[i] : least;
          }
        }
      }
    }
  }
}

double ValueBounds::best(std::size_t n_wanted, std::vector<std::int64_t>* rows) {
  thread_local std::vector<float> all_values;  // for the next search of the thread
  all_values.resize(relevance_.size());
  for (std::size_t i = 0; i < all_values.size(); ++i) {
    all_values[i] = (1 - diversity_) * relevance_[i] - diversity_ * likeness_[i];
  }
  float cutoff = -std::numeric_limits<float>::infinity();
  if (n_wanted < all_values.size()) cutoff = cutoff_for(all_values, n_wanted);
  for (const Part& part : parts_) {
    const Segment& segment = *part.view->segment;
    const float* const values = all_values.data() + part.first;
    for (std::size_t i = 0; i < segment.packed.n_items; ++i) {
      if (values[i] >= cutoff) rows->push_back(segment.row_at(segment.packed.slot_at(i)));
    }
  }
  for (const SegmentView& view : snapshot_.segments) {
    if (!view.segment->packed.is_empty()) continue;
    for (std::size_t slot = 0; slot < view.n_slots; ++slot)
      rows->push_back(view.segment->row_at(slot));
  }
  return static_cast<double>(cutoff);
}

}  // namespace shortlist
