#include "engine/varied_run.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "engine/candidate_choice.hpp"
#include "src/search/calibration.hpp"
#include "src/search/selection.hpp"
#include "src/search/varied.hpp"

namespace shortlist::engine {
namespace {

// The candidates of every request, best first.
struct Candidates {
  Candidates(std::size_t n, std::size_t most)
      : width(most), scores(n * width), rows(n * width), counts(n), sources(n) {}

  AnswerView view() {
    return {scores.data(), rows.data(), counts.data(), sources.data(), nullptr, nullptr};
  }
  std::size_t count(std::size_t request) const { return static_cast<std::size_t>(counts[request]); }
  bool is_all(std::size_t request) const { return count(request) < width; }
  std::vector<Neighbor> list(std::size_t request) const {
    std::vector<Neighbor> candidates(count(request));
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      candidates[i] = {scores[request * width + i], rows[request * width + i]};
    }
    return candidates;
  }

  std::size_t width;
  std::vector<float> scores;
  std::vector<std::int64_t> rows, counts, sources;
};

// One request on its way to its list.
struct Task {
  Task(const Variety& variety, std::size_t request, std::size_t top_n)
      : selection(variety, request, top_n) {}

  void take(const Candidates& served, const Candidates& nearest, std::size_t request) {
    constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
    if (!choice.has_value()) {
      selection.offer(served.list(request), served.is_all(request), kAll);
      return;
    }
    choice->add(&nearest.scores[request * nearest.width], &served.rows[request * served.width],
                std::min(served.count(request), nearest.count(request)));
    choice->choose(&selection, served.is_all(request));
  }

  void write(std::size_t request, const Pass& pass) {
    std::vector<Neighbor> picks = choice.has_value() ? choice->arranged(selection) : sorted();
    pass.answer.counts[request] = static_cast<std::int64_t>(picks.size());
    picks.resize(pass.top_n, {-std::numeric_limits<float>::infinity(), -1});
    for (std::size_t i = 0; i < pass.top_n; ++i) {
      pass.answer.scores[request * pass.top_n + i] = picks[i].score;
      pass.answer.rows[request * pass.top_n + i] = picks[i].row;
    }
    if (pass.answer.missing == nullptr) return;
    selection.write_missing(pass.answer.missing + request * pass.variety.n_quotas);
  }

  std::vector<Neighbor> sorted() const {
    std::vector<Neighbor> picks = selection.picks();
    std::sort(picks.begin(), picks.end(), is_better);
    return picks;
  }

  Selection selection;
  std::optional<CandidateChoice> choice;  // none where the second stage's scores decide
};

// Memory for masks of one run, about: the requests for which there is no room wait for the next.
constexpr std::size_t kMaskBytes = std::size_t{64} << 20;

// What each request may still take; a request that is done, or that has to wait, takes nothing.
class Masks {
 public:
  Masks(const Filter& filter, const std::deque<Task>& tasks, std::size_t n_rows)
      : filter_(filter), nothing_(n_rows) {
    const std::size_t n_most =
        std::max<std::size_t>(1, kMaskBytes / std::max<std::size_t>(1, n_rows));
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      numbers_.push_back(static_cast<std::int64_t>(i));
      if (tasks[i].selection.is_done() || masks_.size() == n_most) {
        pointers_.push_back(nothing_.data());
        continue;
      }
      masks_.push_back(allow_mask_of(filter, i, n_rows));
      tasks[i].selection.narrow(&masks_.back());
      pointers_.push_back(masks_.back().data());
    }
    filter_.allow = {};
    filter_.allow_rows = nullptr;
    filter_.allow_mask = nullptr;
    filter_.allow_masks = pointers_.data();
    filter_.n_allow_masks = pointers_.size();
    filter_.mask_of = numbers_.data();
  }

  const Filter& filter() const { return filter_; }
  bool has(std::size_t request) const { return pointers_[request] != nothing_.data(); }

 private:
  Filter filter_;
  std::vector<unsigned char> nothing_;
  std::deque<std::vector<unsigned char>> masks_;
  std::vector<const unsigned char*> pointers_;
  std::vector<std::int64_t> numbers_;
};

// Popular lists stay as they are.
void choose_by_similarities(const Pass& pass, const IndexView& items, std::deque<Task>* tasks) {
  const Calibration& calibration = pass.variety.calibration;
  const std::size_t most =
      calibration.strength == nullptr ? 0 : most_values(calibration.column, items.n_rows());
  for (std::size_t i = 0; i < tasks->size(); ++i) {
    if (pass.answer.sources[i] == SHORTLIST_POPULAR) continue;
    if (!CandidateChoice::is_for(pass.variety, i)) continue;
    (*tasks)[i].choice.emplace(items, pass.variety, i, pass.top_n, most);
  }
}

}  // namespace

void run_varied(const Pass& pass, std::size_t n, const IndexView& items, std::size_t n_candidates,
                const std::function<void(const Pass&)>& run) {
  std::deque<Task> tasks;
  for (std::size_t i = 0; i < n; ++i) tasks.emplace_back(pass.variety, i, pass.top_n);
  const std::size_t width =
      std::min(std::max<std::size_t>(1, items.n_rows()), std::max(pass.top_n, n_candidates));
  const bool is_of_similarities = pass.variety.is_of_similarities();
  Candidates served(n, width), nearest(is_of_similarities ? n : 0, width);
  Pass round = pass;
  round.top_n = width;
  round.variety = {};
  const auto is_done = [](const Task& task) { return task.selection.is_done(); };
  for (bool is_first = true; is_first || !std::all_of(tasks.begin(), tasks.end(), is_done);
       is_first = false) {
    std::optional<Masks> masks;
    if (!is_first) {
      masks.emplace(pass.filter, tasks, items.n_rows());
      round.filter = masks->filter();
    }
    if (is_of_similarities) {
      round.answer = nearest.view();
      round.n_stages = 1;
      run(round);
    }
    round.answer = served.view();
    round.n_stages = pass.n_stages;
    run(round);
    if (is_first) {
      std::copy(served.sources.begin(), served.sources.end(), pass.answer.sources);
      if (is_of_similarities) choose_by_similarities(pass, items, &tasks);
    }
    for (std::size_t i = 0; i < n; ++i) {
      const bool is_asked = !masks || masks->has(i);
      if (is_asked && !tasks[i].selection.is_done()) tasks[i].take(served, nearest, i);
    }
  }
  for (std::size_t i = 0; i < n; ++i) tasks[i].write(i, pass);
}

}  // namespace shortlist::engine
