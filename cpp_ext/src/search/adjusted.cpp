#include "src/search/adjusted.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "src/rows/exact.hpp"

namespace shortlist {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// The benchmark of these numbers: benchmarks/variety.py.

// Items that a search finds at first, and how many times as many the next one finds.
constexpr std::size_t kFirstWanted = 32, kGrowth = 4;
// Where a search would find more than this part of the items, all of them are looked at instead.
constexpr std::size_t kPartForAll = 8;
// Items that are scored at a time.
constexpr std::size_t kChunk = 1024;

bool is_behind(const Neighbor& one, const Neighbor& other) {
  return is_better(other, one);
}

}  // namespace

Adjusted::Adjusted(const Snapshot& snapshot, const kernels::Table& table, const float* query,
                   const double* exact, const Variety& variety, std::size_t number,
                   std::size_t top_n, std::size_t most_values)
    : snapshot_(snapshot),
      table_(table),
      query_(query),
      exact_(exact,
             exact + (snapshot.dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes),
      terms_(variety.dampening.terms),
      weight_(variety.dampening_of(number)) {
  if (variety.is_calibrated(number)) {
    list_ = std::make_unique<CalibratedList>(variety.calibration, number, top_n, most_values);
  }
  forget();
}

std::size_t Adjusted::Hash::operator()(const Pattern& pattern) const {
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (const std::int32_t number : pattern) {
    hash = (hash ^ static_cast<std::uint32_t>(number)) * 1099511628211ULL;
  }
  return static_cast<std::size_t>(hash ^ hash >> 32);
}

void Adjusted::forget() {
  groups_.clear();
  numbers_.clear();
  known_.clear();
  n_wanted_ = kFirstWanted;
  bound_ = raw_ = inner_ = kInfinity;
  cut_ = -kInfinity;
}

bool Adjusted::choose(Selection* selection) {
  while (!selection->is_done()) {
    n_left_ = selection->n_left();
    Group* const best = selection->is_phase_over() ? nullptr : best_group();
    if (best == nullptr) {
      if (!selection->is_phase_over() && bound_ > -kInfinity) return false;
      selection->end_phase();
      forget();
      continue;
    }
    const Neighbor item = best->items.front();
    if (bound_ > -kInfinity) {
      const double least = list_ == nullptr ? 0 : list_->least_distance();
      if (value(item.score, best->distance) <= value(bound_, least)) return false;
    }
    pop(best);
    if (!selection->may_take(item.row)) continue;  // nor may it later
    selection->take(item);
    count(*best);
  }
  return true;
}

Adjusted::Group* Adjusted::best_group() {
  Group* best = nullptr;
  for (Group& group : groups_) {
    if (group.items.empty()) continue;
    if (best != nullptr) {
      const double own = value(group.items.front().score, group.distance);
      const double other = value(best->items.front().score, best->distance);
      if (own < other) continue;
      if (own == other && is_better(best->items.front(), group.items.front())) continue;
    }
    best = &group;
  }
  return best;
}

Neighbor Adjusted::pop(Group* group) {
  std::pop_heap(group->items.begin(), group->items.end(), is_behind);
  const Neighbor item = group->items.back();
  group->items.pop_back();
  return item;
}

// Counts an item of the group as chosen.
void Adjusted::count(const Group& group) {
  if (list_ == nullptr) return;
  list_->add(group.pattern);
  if (n_left_ == 1) return;  // it is full
  for (Group& one : groups_) one.distance = list_->distance_with(one.pattern);
}

double Adjusted::value(float score, double distance) const {
  if (list_ == nullptr) return static_cast<double>(score);
  return (1 - list_->strength()) * static_cast<double>(score) - list_->strength() * distance;
}

float Adjusted::dampened(float score, std::int64_t row) const {
  if (weight_ <= 0) return score;
  return to_score(Metric::dot, static_cast<double>(score) - weight_ * terms_[row]);
}

// Leaves out what is known and, where scores are dampened, what cannot be among the best.
void Adjusted::narrow(std::vector<unsigned char>* mask) {
  for (const std::int64_t row : known_) (*mask)[static_cast<std::size_t>(row)] = 0;
  if (weight_ <= 0 || list_ != nullptr) return;
  std::vector<float> scores;
  for (const Group& group : groups_) {
    for (const Neighbor& item : group.items) scores.push_back(item.score);
  }
  float cut = -kInfinity;
  if (n_left_ > 0 && scores.size() >= n_left_) {
    const auto last = scores.begin() + static_cast<std::ptrdiff_t>(n_left_ - 1);
    std::nth_element(scores.begin(), last, scores.end(), std::greater<>());
    cut = *last;
  }
  const float most = cut >= cut_ ? inner_ : raw_;
  if (cut < cut_) n_wanted_ = kFirstWanted;
  cut_ = cut;
  if (cut == -kInfinity || most == kInfinity) return;
  for (std::size_t row = 0; row < mask->size(); ++row) {
    if (dampened(most, static_cast<std::int64_t>(row)) < cut) (*mask)[row] = 0;
  }
}

bool Adjusted::wants_all(const std::vector<unsigned char>& mask) const {
  if (n_wanted_ * kPartForAll >= snapshot_.n_items) return true;
  const auto n_out = static_cast<std::size_t>(std::count(mask.begin(), mask.end(), 0));
  return mask.size() - n_out <= n_wanted_;
}

void Adjusted::set_bound(float last, bool is_all) {
  inner_ = is_all ? -kInfinity : last;
  if (cut_ == -kInfinity) raw_ = inner_;
  bound_ = std::max(inner_, std::nextafter(cut_, -kInfinity));
}

void Adjusted::know(const std::vector<Neighbor>& found, bool is_all) {
  for (const Neighbor& item : found) add({dampened(item.score, item.row), item.row});
  settle();
  set_bound(is_all ? 0 : found.back().score, is_all);
  n_wanted_ *= kGrowth;
}

void Adjusted::know_all(const std::vector<unsigned char>& mask) {
  const Metric metric = snapshot_.metric;
  std::vector<std::int64_t> slots;
  std::vector<double> sums(kChunk);
  for (const SegmentView& view : snapshot_.segments) {
    const auto score = [&] {
      exact_sums(table_, metric, view.segment->vectors, exact_.data(), slots.data(), 0,
                 slots.size(), sums.data());
      for (std::size_t i = 0; i < slots.size(); ++i) {
        const std::int64_t row = view.segment->row_at(static_cast<std::size_t>(slots[i]));
        add({dampened(to_score(metric, sums[i]), row), row});
      }
      slots.clear();
    };
    for (std::size_t slot = 0; slot < view.n_slots; ++slot) {
      const auto row = static_cast<std::size_t>(view.segment->row_at(slot));
      if (mask[row] == 0 || !view.is_alive(slot)) continue;
      slots.push_back(static_cast<std::int64_t>(slot));
      if (slots.size() == kChunk) score();
    }
    score();
  }
  settle();
  set_bound(0, true);
}

void Adjusted::add(const Neighbor& item) {
  known_.push_back(item.row);
  Pattern pattern;
  if (list_ != nullptr) list_->read(item.row, &pattern);
  const auto [place, is_new] = numbers_.try_emplace(std::move(pattern), groups_.size());
  if (is_new) {
    const double distance = list_ == nullptr ? 0 : list_->distance_with(place->first);
    groups_.push_back({place->first, distance, {}});
  }
  groups_[place->second].items.push_back(item);
}

void Adjusted::settle() {
  for (Group& group : groups_) {
    std::make_heap(group.items.begin(), group.items.end(), is_behind);
  }
}

void Adjusted::arrange(std::vector<Neighbor>* picks, bool /*has_quotas*/) {
  std::sort(picks->begin(), picks->end(), is_better);
}

}  // namespace shortlist
