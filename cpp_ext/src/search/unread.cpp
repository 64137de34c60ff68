// Rows in a file, which a scan leaves for the end: what their codes say of them until then.
#include <algorithm>
#include <cmath>

#include "src/rows/exact.hpp"
#include "src/search/scan.hpp"

namespace shortlist {

using kernels::kBlockItems;

namespace {

// Rows that wait before those that were ruled out meanwhile are forgotten, and so many more for
// each rank. Where most are left the bound proves little: they are read.
constexpr std::size_t kMostUnread = 4096;
constexpr std::size_t kUnreadPerRank = 8;
// Rows that are read between two looks at what is left, but for the first ones.
constexpr std::size_t kReadTogether = 4;

// Covers the rounding of the few float64 operations below.
constexpr double kRounding = 1e-9;

}  // namespace

// |u.x - s t (dot - offset)| <= r ||u|| + f m, docs/exact_top_n.md. Codes beside rows have one
// scale a block.
ScoreRange Scanner::score_range(const PackedItems& packed, std::size_t position, std::int32_t dot,
                                const QueryRun& run) const {
  const kernels::BlockStats stats = packed.block_stats();
  const std::size_t block = position / kBlockItems;
  const kernels::QueryBound& q = run.bound;
  const double about = (dot - q.offset) / (stats.inverse_scale[block] * q.inverse_scale);
  const double error = (q.norm * stats.residual[block] + q.residual * stats.code_norm[block]) +
                       kRounding * (std::fabs(about) + q.norm * stats.norm[block]);
  const double most = about + error - stats.half_square[block] * (1 - kRounding);
  if (snapshot_.metric != Metric::euclidean) {
    return {most, to_score(snapshot_.metric, about), to_score(snapshot_.metric, about - error)};
  }
  // ||u - x||^2 = ||u||^2 + ||x||^2 - 2 u.x
  const double square = q.norm * q.norm + stats.norm[block] * stats.norm[block];
  const auto score_at = [&](double dot_product, double more) {
    return to_score(snapshot_.metric, std::max(0.0, square - 2 * dot_product) + more);
  };
  return {most, score_at(about, 0), score_at(about - error, 4 * kRounding * square)};
}

// Ranges of four-bit codes are wide: their lower ends rule little out, so what will probably be
// among the best is read at once.
bool Scanner::leave_unread(const SegmentView& view, QueryRun& run, bool is_pause) {
  Pending& pending = run.pending;
  if (pending.size == 0) return false;
  const bool reads_likely = snapshot_.storage == Storage::disk4;
  std::size_t n_likely = 0;
  for (std::size_t i = 0; i < pending.size; ++i) {
    const std::int64_t slot = pending.slots[i];
    if (reads_likely && pending.ranges[i].likely >= run.needed) {
      pending.slots[n_likely++] = slot;
      continue;
    }
    run.unread.push_back({pending.ranges[i].most, slot});
    run.least.push({pending.ranges[i].least, view.segment->row_at(static_cast<std::size_t>(slot))});
  }
  pending.size = n_likely;
  const bool has_new_score = score_pending(view, run, is_pause);
  run.least.settle(is_pause);
  if (run.shared != nullptr) run.shared->raise(run.least.threshold());
  const bool has_changed = run.refresh_bound() || has_new_score;
  const std::size_t n_most = kMostUnread + kUnreadPerRank * run.best.capacity();
  if (run.unread.size() < n_most) return has_changed;
  run.forget();
  if (2 * run.unread.size() < n_most) return has_changed;
  const float needed = run.needed;
  finish(view, run);
  return has_changed || run.needed != needed;
}

void QueryRun::forget() {
  const double limit = bound.needed - bound.slack;
  const auto is_ruled_out = [limit](const Unread& item) { return item.most <= limit; };
  unread.erase(std::remove_if(unread.begin(), unread.end(), is_ruled_out), unread.end());
}

void Scanner::finish(const SegmentView& view, QueryRun& run) {
  if (run.unread.empty()) return;
  run.refresh_bound();
  run.forget();
  std::vector<Unread>& unread = run.unread;
  std::sort(unread.begin(), unread.end(),
            [](const Unread& a, const Unread& b) { return a.most > b.most; });
  Pending& pending = run.pending;
  std::size_t n_first = run.best.capacity();
  for (auto next = unread.begin(); next != unread.end();) {
    const std::size_t n_together = std::min(Pending::kCapacity, std::max(kReadTogether, n_first));
    n_first -= std::min(n_first, n_together);
    for (; next != unread.end() && pending.size < n_together; ++next) {
      if (next->most <= run.bound.needed - run.bound.slack) {
        next = unread.end();
        break;
      }
      pending.slots[pending.size++] = next->slot;
    }
    score_pending(view, run);
  }
  unread.clear();
}

}  // namespace shortlist
