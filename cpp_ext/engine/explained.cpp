// Greedy reasons: margins without pieces of a request, in batches, and searches that check them.
#include "engine/explained.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

namespace shortlist::engine {
namespace {

// Items behind the list that are judged with those in it.
constexpr std::size_t kRivals = 64;
// What is further behind than so much of the scores is behind for the index as well.
constexpr double kRounding = 1e-5;

Pieces with(Pieces pieces, std::size_t piece) {
  pieces.insert(std::lower_bound(pieces.begin(), pieces.end(), piece), piece);
  return pieces;
}

// A list for each of n requests, all the same.
struct SameLists {
  SameLists(const RaggedRows& rows, std::size_t request, std::size_t n) {
    if (rows.splits == nullptr) return;
    repeat(rows.values + rows.splits[request], rows.values + rows.splits[request + 1], n);
  }
  SameLists(const std::vector<std::int64_t>& list, std::size_t n) {
    repeat(list.data(), list.data() + list.size(), n);
  }
  RaggedRows get() const {
    return splits.empty() ? RaggedRows{} : RaggedRows{values.data(), splits.data()};
  }

  std::vector<std::int64_t> values, splits;

 private:
  void repeat(const std::int64_t* from, const std::int64_t* to, std::size_t n) {
    splits.push_back(0);
    for (std::size_t i = 0; i < n; ++i) {
      values.insert(values.end(), from, to);
      splits.push_back(static_cast<std::int64_t>(values.size()));
    }
  }
};

// The sum of term(i) for i < n; many sums at a time do not wait for one another.
template <class Term>
double sum_of(std::size_t n, const Term& term) {
  constexpr std::size_t kLanes = 16;
  float sums[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += term(i + lane);
  }
  for (; i < n; ++i) sums[i % kLanes] += term(i);
  double sum = 0;
  for (const float part : sums) sum += static_cast<double>(part);
  return sum;
}

double dot(const float* one, const float* other, std::size_t dim) {
  return sum_of(dim, [&](std::size_t i) { return one[i] * other[i]; });
}

// The scores of items for one user, nearly as the index gives them.
class Similarity {
 public:
  Similarity(Metric metric, const float* user, std::size_t dim)
      : metric_(metric), user_(user), dim_(dim) {
    if (metric == Metric::cosine) {
      const double length = std::sqrt(dot(user, user, dim));
      scale_ = length == 0 ? 0 : 1 / length;
    }
  }
  double operator()(const float* item) const {
    if (metric_ != Metric::euclidean) return scale_ * dot(user_, item, dim_);
    return -std::sqrt(sum_of(dim_, [&](std::size_t i) {
      const float apart = user_[i] - item[i];
      return apart * apart;
    }));
  }

 private:
  Metric metric_;
  const float* user_;
  std::size_t dim_;
  double scale_ = 1;
};

}  // namespace

std::size_t Sets::number_of(const Pieces& pieces) {
  const auto [place, is_new] = numbers_.emplace(pieces, all_.size());
  if (is_new) all_.push_back(pieces);
  return place->second;
}

LoadedBundle::Explained::Explained(const Asked& asked, const Evidence& evidence,
                                   std::vector<std::int64_t> excluded,
                                   std::vector<std::int64_t> listed)
    : asked_(asked),
      evidence_(evidence),
      excluded_(std::move(excluded)),
      n_listed_(listed.size()),
      judged_(std::move(listed)),
      chosen_(n_listed_),
      best_(n_listed_),
      tried_(n_listed_),
      by_vectors_(asked.bundle.portable_ == nullptr && asked.call.skipped.splits == nullptr &&
                  (asked.call.stages == 1 || !asked.bundle.graph_->has_reranker())) {}

void LoadedBundle::Explained::find(const ReasonsView& reasons) {
  std::size_t step = 0;
  while (step < asked_.options.n_reasons && try_all(step, reasons)) ++step;
  replay(reasons);
}

// Finds the next reason of every item whose last one was found; false where there is none.
bool LoadedBundle::Explained::try_all(std::size_t step, const ReasonsView& reasons) {
  Sets sets;
  if (step == 0) {
    sets.number_of({});
    for (std::size_t piece = 0; piece < evidence_.size(); ++piece) sets.number_of({piece});
  } else {
    for (std::size_t item = 0; item < n_listed_; ++item) {
      if (chosen_[item].size() != step) continue;
      each_next(item, [&](std::size_t, const Pieces& pieces) { sets.number_of(pieces); });
    }
  }
  if (sets.all().empty()) return false;
  const std::vector<Margin> margins = margins_of(sets.all());
  if (step == 0) begin(margins);
  bool has_some = false;
  for (std::size_t item = 0; item < n_listed_; ++item) {
    if (chosen_[item].size() != step) continue;
    has_some = choose(item, step, sets, margins, reasons) || has_some;
  }
  return has_some;
}

// The margins of the request as it is, and what is tried again for each item.
void LoadedBundle::Explained::begin(const std::vector<Margin>& margins) {
  const ReasonOptions& options = asked_.options;
  const std::size_t n_tried =
      options.n_tried == 0 ? evidence_.size() : std::max(options.n_tried, options.n_reasons);
  for (std::size_t item = 0; item < n_listed_; ++item) {
    best_[item] = margins[item].size;
    std::vector<std::size_t>& order = tried_[item];
    order.resize(evidence_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t one, std::size_t other) {
      return margins[(one + 1) * n_listed_ + item].size <
             margins[(other + 1) * n_listed_ + item].size;
    });
    order.resize(std::min(order.size(), n_tried));
  }
}

template <class Visit>
void LoadedBundle::Explained::each_next(std::size_t item, const Visit& visit) const {
  const Pieces& chosen = chosen_[item];
  Pieces sorted = chosen;
  std::sort(sorted.begin(), sorted.end());
  for (const std::size_t piece : tried_[item]) {
    if (std::find(chosen.begin(), chosen.end(), piece) != chosen.end()) continue;
    visit(piece, with(sorted, piece));
  }
}

bool LoadedBundle::Explained::choose(std::size_t item, std::size_t step, Sets& sets,
                                     const std::vector<Margin>& margins,
                                     const ReasonsView& reasons) {
  Margin least{best_[item], false};
  std::size_t found = evidence_.size();
  each_next(item, [&](std::size_t piece, const Pieces& pieces) {
    const Margin& margin = margins[sets.number_of(pieces) * n_listed_ + item];
    if (margin.size >= least.size) return;
    least = margin;
    found = piece;
  });
  if (found == evidence_.size()) return false;
  const std::size_t place = item * asked_.options.n_reasons + step;
  reasons.what[place] = evidence_.what(found);
  reasons.drops[place] = static_cast<float>(best_[item] - least.size);
  reasons.leaves[place] = by_vectors_ && least.is_out ? 1 : 0;
  best_[item] = least.size;
  chosen_[item].push_back(found);
  return true;
}

// (n_sets, n_listed) margins of the listed items. @pre the first call begins with the empty set
std::vector<LoadedBundle::Explained::Margin> LoadedBundle::Explained::margins_of(
    const std::vector<Pieces>& sets) {
  const std::vector<double> scores = by_vectors_ ? scores_by_vectors(sets) : scores_by_graph(sets);
  std::vector<Margin> margins(sets.size() * n_listed_);
  for (std::size_t i = 0; i < sets.size(); ++i) {
    put_margins(scores.data() + i * judged_.size(), margins.data() + i * n_listed_);
  }
  return margins;
}

// From the scores of the judged rows: each item's, minus the top_n-th best of the others.
void LoadedBundle::Explained::put_margins(const double* scores, Margin* margins) const {
  const std::size_t top_n = asked_.call.top_n;
  double last = 0, next = 0;
  const bool has_outside = judged_.size() > top_n;
  if (has_outside) {
    std::vector<double> best(scores, scores + judged_.size());
    const auto place = best.begin() + static_cast<std::ptrdiff_t>(top_n);
    std::nth_element(best.begin(), place, best.end(), std::greater<>());
    next = *place;
    last = *std::min_element(best.begin(), place);
  }
  for (std::size_t item = 0; item < n_listed_; ++item) {
    const double score = scores[item], from = score >= last ? next : last;
    const double rounding = kRounding * std::max(std::abs(score), std::abs(last));
    margins[item] = {score - from, has_outside && score < last - rounding};
  }
}

std::vector<double> LoadedBundle::Explained::scores_by_vectors(const std::vector<Pieces>& sets) {
  const IndexView& view = asked_.catalogue.view();
  const std::size_t before = users_.size(), dim = view.dim();
  for (const Pieces& pieces : sets) encoded_.number_of(pieces);  // each is new
  users_.resize(before + sets.size() * dim);
  ask(sets, [&](const Call& call) {
    asked_.bundle.encode_users(call, asked_.catalogue, users_.data() + before);
  });
  if (vectors_.empty()) {
    find_rivals();
    vectors_.resize(judged_.size() * dim);
    view.copy_vectors(judged_.data(), judged_.size(), vectors_.data());
  }
  std::vector<double> scores;
  scores.reserve(sets.size() * judged_.size());
  for (std::size_t i = 0; i < sets.size(); ++i) {
    const Similarity score(view.metric(), users_.data() + before + i * dim, dim);
    for (std::size_t place = 0; place < judged_.size(); ++place) {
      scores.push_back(score(vectors_.data() + place * dim));
    }
  }
  return scores;
}

std::vector<double> LoadedBundle::Explained::scores_by_graph(const std::vector<Pieces>& sets) {
  if (sets.front().empty()) find_rivals();
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    rows.insert(rows.end(), judged_.begin(), judged_.end());
  }
  std::vector<float> scores(rows.size());
  ask(sets, [&](const Call& call) {
    asked_.bundle.score(call, asked_.catalogue, rows.data(), judged_.size(), scores.data());
  });
  return {scores.begin(), scores.end()};
}

// The items behind the list, which may take its places.
void LoadedBundle::Explained::find_rivals() {
  const std::size_t width = asked_.call.top_n + kRivals;
  Found found(1, width);
  ask({{}}, [&](const Call& call) {
    Call wide = call;
    wide.top_n = width;
    if (by_vectors_) {
      asked_.catalogue.view().search({users_.data(), 1, asked_.catalogue.view().dim()}, width,
                                     wide.filter, 1,
                                     {found.scores.data(), found.rows.data(), found.counts.data()});
    } else {
      asked_.bundle.recommend_now(wide, asked_.catalogue, found.view());
    }
  });
  for (std::int64_t place = 0; place < found.counts[0]; ++place) {
    const std::int64_t row = found.rows[static_cast<std::size_t>(place)];
    const auto last = judged_.begin() + static_cast<std::ptrdiff_t>(n_listed_);
    if (std::find(judged_.begin(), last, row) == last) judged_.push_back(row);
  }
}

// Searches without the first reason of each item, without the first two, and so on. One that is
// behind enough of its rivals is behind enough of all items.
void LoadedBundle::Explained::replay(const ReasonsView& reasons) const {
  Sets sets;
  const auto each_open = [&](const auto& visit) {
    for (std::size_t item = 0; item < n_listed_; ++item) {
      Pieces pieces;
      for (std::size_t step = 0; step < chosen_[item].size(); ++step) {
        pieces = with(std::move(pieces), chosen_[item][step]);
        unsigned char& leaves = reasons.leaves[item * asked_.options.n_reasons + step];
        if (leaves == 0 || !evidence_.keeps_some_item(pieces)) visit(item, pieces, leaves);
      }
    }
  };
  each_open([&](std::size_t, const Pieces& pieces, unsigned char&) { sets.number_of(pieces); });
  if (sets.all().empty()) return;
  std::vector<std::int64_t> rows;
  search(sets.all(), &rows);
  const auto top_n = static_cast<std::ptrdiff_t>(asked_.call.top_n);
  each_open([&](std::size_t item, const Pieces& pieces, unsigned char& leaves) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(sets.find(pieces)) * top_n;
    leaves = std::find(first, first + top_n, judged_[item]) != first + top_n ? 0 : 1;
  });
}

// The top_n without each of some sets whose margins are known.
void LoadedBundle::Explained::search(const std::vector<Pieces>& sets,
                                     std::vector<std::int64_t>* rows) const {
  const std::size_t top_n = asked_.call.top_n, dim = asked_.catalogue.view().dim();
  // Where nothing may be left that is known, the graph decides whether the answer is the popular
  // items.
  const bool has_some = std::all_of(sets.begin(), sets.end(), [this](const Pieces& pieces) {
    return evidence_.keeps_some_item(pieces);
  });
  Found found(sets.size(), top_n);
  ask(sets, [&](const Call& call) {
    if (!by_vectors_ || !has_some) {
      return asked_.bundle.recommend_now(call, asked_.catalogue, found.view());
    }
    std::vector<float> users;
    for (const Pieces& pieces : sets) {
      const float* const user = users_.data() + encoded_.find(pieces) * dim;
      users.insert(users.end(), user, user + dim);
    }
    asked_.catalogue.view().search({users.data(), sets.size(), dim}, top_n, call.filter,
                                   asked_.bundle.settings_.session.n_threads,
                                   {found.scores.data(), found.rows.data(), found.counts.data()});
  });
  *rows = std::move(found.rows);
}

// Calls `work` with requests that are this one without each of the sets.
template <class Work>
void LoadedBundle::Explained::ask(const std::vector<Pieces>& sets, const Work& work) const {
  std::vector<ColumnValues> values;
  for (const BoundColumn& column : asked_.bound) {
    if (column.given != nullptr) values.emplace_back(*column.input);
  }
  for (const Pieces& pieces : sets) evidence_.add_without(pieces, &values);
  std::vector<shortlist_column> columns;
  for (const ColumnValues& one : values) columns.push_back(one.column());
  const std::size_t n = sets.size(), i = asked_.request;
  Call call = asked_.call;
  const SameLists exclude(excluded_, n), allow(call.filter.allow, i, n),
      skipped(call.skipped, i, n);
  std::vector<std::int64_t> mask_of;
  call.n_requests = n;
  call.columns = columns.data();
  call.n_columns = columns.size();
  call.exclude_seen = false;  // it is among what is excluded
  call.is_joined = nullptr;
  call.filter.exclude = exclude.get();
  call.filter.allow = allow.get();
  call.skipped = skipped.get();
  if (call.filter.mask_of != nullptr) {
    mask_of.assign(n, call.filter.mask_of[i]);
    call.filter.mask_of = mask_of.data();
  }
  work(call);
}

}  // namespace shortlist::engine
