#include "engine/candidate_choice.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "src/kernels/simd.hpp"
#include "src/rows/exact.hpp"

namespace shortlist::engine {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

}  // namespace

CandidateChoice::CandidateChoice(const IndexView& items, const Variety& variety,
                                 std::size_t request, std::size_t top_n, std::size_t most_values)
    : items_(items),
      diversity_(variety.diversity_of(request)),
      weight_(variety.dampening_of(request)),
      terms_(variety.dampening.terms) {
  if (variety.is_calibrated(request)) {
    list_.emplace(variety.calibration, request, top_n, most_values);
  }
}

bool CandidateChoice::is_for(const Variety& variety, std::size_t request) {
  return variety.diversity_of(request) > 0 || variety.is_calibrated(request) ||
         variety.dampening_of(request) > 0;
}

void CandidateChoice::add(const float* similarities, const std::int64_t* rows, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    Candidate candidate{{similarities[i], rows[i]}, {}, kNoScore};
    if (weight_ > 0) {
      const double taken_off = weight_ * terms_[rows[i]];
      candidate.item.score =
          to_score(Metric::dot, static_cast<double>(similarities[i]) - taken_off);
    }
    if (list_.has_value()) list_->read(rows[i], &candidate.pattern);
    candidates_.push_back(std::move(candidate));
  }
  if (diversity_ <= 0) return;
  const std::size_t first = candidates_.size() - n, dim = items_.dim();
  vectors_.resize(candidates_.size() * dim);
  items_.copy_vectors(rows, n, vectors_.data() + first * dim);
  for (const std::size_t chosen : chosen_) compare(chosen, first);
}

double CandidateChoice::value(const Candidate& candidate) const {
  const auto score = static_cast<double>(candidate.item.score);
  if (list_.has_value()) {
    return (1 - list_->strength()) * score -
           list_->strength() * list_->distance_with(candidate.pattern);
  }
  if (chosen_.empty() || diversity_ <= 0) return score;
  return (1 - diversity_) * score - diversity_ * static_cast<double>(candidate.most_alike);
}

// As without a second stage: behind the first place, diversity looks at rows alone.
bool CandidateChoice::wins_tie(const Candidate& one, const Candidate& other) const {
  if (diversity_ > 0 && !chosen_.empty()) return one.item.row < other.item.row;
  return is_better(one.item, other.item);
}

const CandidateChoice::Candidate* CandidateChoice::best_of(
    const std::function<bool(std::int64_t)>& may_take) const {
  const Candidate* best = nullptr;
  double most = 0;
  for (const Candidate& candidate : candidates_) {
    if (!may_take(candidate.item.row)) continue;
    const double own = value(candidate);
    if (best != nullptr && (own < most || (own == most && !wins_tie(candidate, *best)))) continue;
    best = &candidate;
    most = own;
  }
  return best;
}

void CandidateChoice::count(const Candidate& chosen) {
  if (list_.has_value()) list_->add(chosen.pattern);
  chosen_.push_back(static_cast<std::size_t>(&chosen - candidates_.data()));
  if (diversity_ > 0) compare(chosen_.back(), 0);
}

// Candidates from `first` on with one that is chosen.
void CandidateChoice::compare(std::size_t chosen, std::size_t first) {
  const std::size_t dim = items_.dim(), n = candidates_.size() - first;
  std::vector<double> query((dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes);
  std::copy_n(vectors_.begin() + static_cast<std::ptrdiff_t>(chosen * dim), dim, query.begin());
  std::vector<double> sums(n);
  const kernels::Table& table = active_kernels();
  const auto kernel = items_.metric() == Metric::euclidean ? table.distance_rows : table.dot_rows;
  kernel(query.data(), vectors_.data() + first * dim, dim, nullptr, n, sums.data());
  for (std::size_t i = 0; i < n; ++i) {
    float& most = candidates_[first + i].most_alike;
    most = std::max(most, to_score(items_.metric(), sums[i]));
  }
}

void CandidateChoice::choose(Selection* selection, bool is_all) {
  if (!first_is_all_.has_value()) first_is_all_ = is_all;
  while (!selection->is_done()) {
    const auto may_take = [&](std::int64_t row) { return selection->may_take(row); };
    const Candidate* const best = selection->is_phase_over() ? nullptr : best_of(may_take);
    if (best == nullptr) {
      if (!selection->is_phase_over() && !is_all) return;
      selection->end_phase();
      is_all = *first_is_all_;
      continue;
    }
    selection->take(best->item);
    count(*best);
  }
}

std::vector<Neighbor> CandidateChoice::arranged(const Selection& selection) {
  std::vector<Neighbor> picks = selection.picks();
  if (diversity_ <= 0) {
    std::sort(picks.begin(), picks.end(), is_better);
    return picks;
  }
  if (!selection.has_quotas()) return picks;
  std::vector<std::int64_t> left;
  for (const Neighbor& pick : picks) left.push_back(pick.row);
  for (Candidate& candidate : candidates_) candidate.most_alike = kNoScore;
  chosen_.clear();
  for (Neighbor& place : picks) {
    const Candidate* const best = best_of(
        [&](std::int64_t row) { return std::find(left.begin(), left.end(), row) != left.end(); });
    place = best->item;
    left.erase(std::find(left.begin(), left.end(), place.row));
    count(*best);
  }
  return picks;
}

}  // namespace shortlist::engine
