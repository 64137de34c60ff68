#include "src/search/mmr.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "src/rows/exact.hpp"
#include "src/rows/normalize.hpp"

namespace shortlist {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The benchmark of these numbers: benchmarks/variety.py.

// Items that a search finds at first, and how many times as many the next one finds before there is
// a choice.
constexpr std::size_t kFirstWanted = 128, kGrowth = 4;
// With so much diversity no search is tried before the first pass, which finds so many items.
constexpr double kMuch = 0.4;
constexpr std::size_t kFewestKnown = 1024;
// Scores of new items that are computed at once; the others when they are needed.
constexpr std::size_t kScoresAtOnce = 1 << 16;
// Where a search would find more than this part of the items, all of them are looked at instead.
constexpr std::size_t kPartForAll = 8;
// Weights are fitted to so many of the best items, in so many steps of this size.
constexpr std::size_t kFitted = 32, kFitSteps = 100;
constexpr double kFitRate = 3;
// More than what all roundings of a bound can come to, in lengths of query times item: scores are
// rounded once (6e-8), the vector that is searched for at most three times.
constexpr double kSlack = 1e-6;
// The same for results too small to be rounded in proportion.
constexpr double kTinySlack = 1e-44;
// Beyond it scores may be clamped, and there is no bound.
constexpr double kMostProduct = 1e37;

}  // namespace

double largest_norm(const Snapshot& snapshot) {
  if (snapshot.metric == Metric::euclidean) return kInfinity;
  if (snapshot.metric == Metric::cosine) return 1.01;  // 1, but for the rounding of the storage
  double largest = 0;
  std::vector<float> row(snapshot.dim);
  for (const SegmentView& view : snapshot.segments) {
    const Segment& segment = *view.segment;
    if (!segment.packed.is_empty()) {
      const double* const norms = segment.packed.block_stats().norm;
      largest = std::max(largest, *std::max_element(norms, norms + segment.packed.n_blocks));
    } else if (!segment.is_delta) {
      return kInfinity;  // rows too long to be packed
    } else {
      for (std::size_t slot = 0; slot < view.n_slots; ++slot) {
        const float* const vector = segment.vectors.read(slot, row.data());
        largest = std::max(largest, std::sqrt(squared_norm(vector, snapshot.dim)));
      }
    }
  }
  return largest * (1 + 1e-6);
}

Mmr::Mmr(const Snapshot& snapshot, const kernels::Table& table, const double* query,
         double diversity, double item_norm)
    : snapshot_(snapshot),
      table_(table),
      query_(query,
             query + (snapshot.dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes),
      diversity_(diversity),
      item_norm_(item_norm),
      search_(snapshot.dim) {
  double square = 0;
  for (const double number : query_) square += number * number;
  query_norm_ = std::sqrt(square);
  forget();
}

void Mmr::forget() {
  heap_.clear();
  known_.clear();
  bound_ = kInfinity;
  n_wanted_ = kFirstWanted;
}

void Mmr::begin(std::int64_t row) {
  std::vector<float> vector(snapshot_.dim);
  snapshot_.copy_vector(static_cast<std::size_t>(row), vector.data());
  begin(vector.data());
}

void Mmr::begin(const float* vector) {
  chosen_.resize(++n_chosen_ * query_.size());
  std::copy_n(vector, snapshot_.dim, chosen_.end() - static_cast<std::ptrdiff_t>(query_.size()));
  chosen_norm_ = std::max(chosen_norm_, std::sqrt(squared_norm(vector, snapshot_.dim)));
  n_wanted_ = std::max(kFirstWanted, n_wanted_ / kGrowth);
}

void Mmr::take_best(Selection* selection, std::vector<Neighbor> list, bool is_all) {
  selection->offer(std::move(list), is_all, 1);
  if (selection->picks().empty()) return;
  begin(selection->picks()[0].row);
  choose(selection);
}

bool Mmr::choose(Selection* selection) {
  while (!selection->is_done()) {
    const bool is_exhausted = heap_.empty() && bound_ == -kInfinity;
    if (is_exhausted || selection->is_phase_over()) {
      selection->end_phase();
      forget();
      continue;
    }
    if (heap_.empty()) return false;
    const Entry best = pop();
    if (!selection->may_take(best.row)) continue;  // nor may it later
    if (best.bound <= bound_) {
      push(best);
      return false;
    }
    selection->take({best.score, best.row});
    begin(best.row);
  }
  bounds_.reset();  // as long as the catalogue, while many lists wait for the last one of a call
  return true;
}

Mmr::Entry Mmr::pop() {
  for (;;) {
    std::pop_heap(heap_.begin(), heap_.end(), is_behind);
    Entry best = heap_.back();
    heap_.pop_back();
    if (best.n_counted == n_chosen_) return best;
    count(&best);
    push(best);
  }
}

void Mmr::push(const Entry& entry) {
  heap_.push_back(entry);
  std::push_heap(heap_.begin(), heap_.end(), is_behind);
}

bool Mmr::has_bounds() const {
  const bool has_product = (query_norm_ + item_norm_) * item_norm_ < kMostProduct;
  return has_product && n_wanted_ * kPartForAll < snapshot_.n_items;
}

bool Mmr::wants_all(const std::vector<unsigned char>&) const {
  if (bounds_ != nullptr || !has_bounds()) return true;
  const bool is_narrow = n_wanted_ <= kFirstWanted && diversity_ < kMuch;
  return !is_narrow && ValueBounds::are_known(snapshot_);
}

void Mmr::narrow(std::vector<unsigned char>* mask) {
  for (const std::int64_t row : known_) (*mask)[static_cast<std::size_t>(row)] = 0;
}

const float* Mmr::search_for() {
  std::vector<double> sum(query_);
  for (double& number : sum) number *= 1 - diversity_;
  const std::vector<double> weight = weights();
  for (std::size_t j = 0; j < n_chosen_; ++j) {
    for (std::size_t d = 0; d < sum.size(); ++d) sum[d] -= diversity_ * weight[j] * chosen(j)[d];
  }
  double square = 0;
  for (const double number : sum) square += number * number;
  factor_ = std::sqrt(square);
  const double scale = factor_ > 0 ? 1 / factor_ : 0.0;
  for (std::size_t d = 0; d < search_.size(); ++d) search_[d] = static_cast<float>(sum[d] * scale);
  slack_ = slack(kSlack) + kTinySlack * factor_;
  return search_.data();
}

double Mmr::slack(double rounding) const {
  const double size = (1 - diversity_) * query_norm_ + diversity_ * chosen_norm_;
  return rounding * size * item_norm_ + kTinySlack;
}

void Mmr::know(const std::vector<Neighbor>& found, bool is_all) {
  std::vector<std::int64_t> rows;
  for (const Neighbor& item : found) rows.push_back(item.row);
  std::sort(rows.begin(), rows.end());
  add(rows);
  bound_ = is_all ? -kInfinity
                  : std::min(bound_, factor_ * static_cast<double>(found.back().score) + slack_);
  n_wanted_ *= kGrowth;
}

// The items of the mask whose values may be the greatest.
void Mmr::know_best(const std::vector<unsigned char>& mask) {
  if (bounds_ == nullptr) bounds_ = std::make_unique<ValueBounds>(snapshot_, table_, diversity_);
  std::vector<std::vector<float>> vectors;
  std::vector<const float*> new_ones;
  for (std::size_t number = bounds_->n_counted(); number <= n_chosen_; ++number) {
    const double* const from = number == 0 ? query_.data() : chosen(number - 1);
    vectors.emplace_back(from, from + snapshot_.dim);
  }
  for (const std::vector<float>& vector : vectors) new_ones.push_back(vector.data());
  bounds_->count(new_ones);
  std::vector<std::int64_t> rows;
  const double most = bounds_->best(std::max(kFewestKnown, n_wanted_), &rows);
  const auto is_masked = [&](std::int64_t row) { return mask[static_cast<std::size_t>(row)] == 0; };
  rows.erase(std::remove_if(rows.begin(), rows.end(), is_masked), rows.end());
  std::sort(rows.begin(), rows.end());
  add(rows);
  bound_ = std::min(bound_, most + slack(ValueBounds::kRounding));
  n_wanted_ *= kGrowth;
}

void Mmr::know_all(const std::vector<unsigned char>& mask) {
  if (has_bounds() && ValueBounds::are_known(snapshot_)) return know_best(mask);
  std::vector<std::int64_t> rows;
  for (std::size_t row = 0; row < mask.size(); ++row) {
    if (mask[row] != 0) rows.push_back(static_cast<std::int64_t>(row));
  }
  add(rows);
  bound_ = -kInfinity;
}

// Rows in ascending order; those of removed items are left out.
void Mmr::add(const std::vector<std::int64_t>& rows) {
  known_.insert(known_.end(), rows.begin(), rows.end());
  for (std::size_t s = 0; s < snapshot_.segments.size(); ++s) {
    const SegmentView& view = snapshot_.segments[s];
    const std::size_t first = heap_.size();
    const auto at_hand = static_cast<std::uint32_t>(s);
    const auto keep = [&](std::int64_t row, std::int64_t slot) {
      if (!view.is_alive(static_cast<std::size_t>(slot))) return;
      heap_.push_back({0, row, slot, at_hand, 0, 0, 0});
    };
    if (view.segment->is_delta) {
      for (std::size_t slot = 0; slot < view.n_slots; ++slot) {
        const std::int64_t row = view.segment->row_at(slot);
        if (std::binary_search(rows.begin(), rows.end(), row)) {
          keep(row, static_cast<std::int64_t>(slot));
        }
      }
    } else {
      for (const std::int64_t row : rows) {
        const std::int64_t slot = view.segment->slot_of(row);
        if (slot >= 0) keep(row, slot);
      }
    }
    count_new(s, first);
  }
  std::make_heap(heap_.begin(), heap_.end(), is_behind);
}

// Scores the entries from `first` on, all of one segment: with the first of the chosen items at
// least, as that makes a bound.
void Mmr::count_new(std::size_t segment, std::size_t first) {
  const std::size_t n = heap_.size() - first;
  if (n == 0) return;
  const StoredRows& vectors = snapshot_.segments[segment].segment->vectors;
  const Metric metric = snapshot_.metric;
  std::vector<std::int64_t> slots(n);
  std::vector<double> sums(n);
  for (std::size_t i = 0; i < n; ++i) slots[i] = heap_[first + i].slot;
  exact_sums(table_, metric, vectors, query_.data(), slots.data(), 0, n, sums.data());
  for (std::size_t i = 0; i < n; ++i) {
    heap_[first + i].score = to_score(metric, sums[i]);
    heap_[first + i].most_alike = -std::numeric_limits<float>::infinity();
  }
  const std::size_t n_counted = std::min(n_chosen_, std::max<std::size_t>(1, kScoresAtOnce / n));
  for (std::size_t j = 0; j < n_counted; ++j) {
    exact_sums(table_, metric, vectors, chosen(j), slots.data(), 0, n, sums.data());
    for (std::size_t i = 0; i < n; ++i) {
      float& most_alike = heap_[first + i].most_alike;
      most_alike = std::max(most_alike, to_score(metric, sums[i]));
    }
  }
  for (std::size_t i = first; i < heap_.size(); ++i) {
    heap_[i].n_counted = static_cast<std::uint32_t>(n_counted);
    heap_[i].bound = value(heap_[i].score, heap_[i].most_alike);
  }
}

void Mmr::count(Entry* entry) const {
  for (; entry->n_counted < n_chosen_; ++entry->n_counted) {
    entry->most_alike = std::max(entry->most_alike, score(chosen(entry->n_counted), *entry));
  }
  entry->bound = value(entry->score, entry->most_alike);
}

double Mmr::value(float score, float most_alike) const {
  const double relevance = (1 - diversity_) * static_cast<double>(score);
  return relevance - diversity_ * static_cast<double>(most_alike);
}

float Mmr::score(const double* query, const Entry& entry) const {
  double sum = 0;
  exact_sums(table_, snapshot_.metric, snapshot_.segments[entry.segment].segment->vectors, query,
             &entry.slot, 0, 1, &sum);
  return to_score(snapshot_.metric, sum);
}

// Weights that make the largest of the bounds small, by multiplicative weights on the known items
// with the largest ones: any weights are right, good ones let fewer items be looked at.
std::vector<double> Mmr::weights() const {
  std::vector<double> weight(n_chosen_, 1 / static_cast<double>(n_chosen_));
  std::vector<Entry> best(std::min(kFitted, heap_.size()));
  const auto is_ahead = [](const Entry& one, const Entry& other) { return is_behind(other, one); };
  std::partial_sort_copy(heap_.begin(), heap_.end(), best.begin(), best.end(), is_ahead);
  if (n_chosen_ < 2 || best.empty()) return weight;
  std::vector<double> likeness(best.size() * n_chosen_);
  double most = 1e-30;
  for (std::size_t i = 0; i < likeness.size(); ++i) {
    likeness[i] = static_cast<double>(score(chosen(i % n_chosen_), best[i / n_chosen_]));
    most = std::max(most, std::fabs(likeness[i]));
  }
  for (std::size_t step = 0; step < kFitSteps; ++step) {
    double largest = -kInfinity;
    const double* of_largest = nullptr;
    for (std::size_t i = 0; i < best.size(); ++i) {
      const double* const own = likeness.data() + i * n_chosen_;
      double bound = (1 - diversity_) * static_cast<double>(best[i].score);
      for (std::size_t j = 0; j < n_chosen_; ++j) bound -= diversity_ * weight[j] * own[j];
      if (bound <= largest) continue;
      largest = bound;
      of_largest = own;
    }
    double sum = 0;
    for (std::size_t j = 0; j < n_chosen_; ++j) {
      weight[j] *= std::exp(kFitRate * of_largest[j] / most);
      sum += weight[j];
    }
    for (double& one : weight) one /= sum;
  }
  return weight;
}

void Mmr::arrange(std::vector<Neighbor>* picks, bool has_quotas) {
  if (has_quotas && !picks->empty()) *picks = ordered(*picks);
}

std::vector<Neighbor> Mmr::ordered(const std::vector<Neighbor>& picks) {
  forget();
  chosen_.clear();
  n_chosen_ = 0;
  std::vector<Neighbor> order = {*std::min_element(picks.begin(), picks.end(), is_better)};
  begin(order[0].row);
  std::vector<std::int64_t> rows;
  for (const Neighbor& pick : picks) {
    if (pick.row != order[0].row) rows.push_back(pick.row);
  }
  std::sort(rows.begin(), rows.end());
  add(rows);
  while (!heap_.empty()) {
    const Entry best = pop();
    order.push_back({best.score, best.row});
    begin(best.row);
  }
  return order;
}

}  // namespace shortlist
