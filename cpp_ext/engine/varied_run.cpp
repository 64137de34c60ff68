#include "engine/varied_run.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "src/search/selection.hpp"
#include "src/search/varied.hpp"

namespace shortlist::engine {
namespace {

// The candidates of every request, best first.
struct Candidates {
  Candidates(std::size_t n, std::size_t most)
      : width(most), scores(n * width), rows(n * width), counts(n), sources(n) {}

  void offer_to(Selection& selection, std::size_t request) const {
    std::vector<Neighbor> list(static_cast<std::size_t>(counts[request]));
    for (std::size_t i = 0; i < list.size(); ++i) {
      list[i] = {scores[request * width + i], rows[request * width + i]};
    }
    const bool is_all = list.size() < width;
    selection.offer(std::move(list), is_all, std::numeric_limits<std::size_t>::max());
  }

  std::size_t width;
  std::vector<float> scores;
  std::vector<std::int64_t> rows, counts, sources;
};

// Memory for masks of one run, about: the requests for which there is no room wait for the next.
constexpr std::size_t kMaskBytes = std::size_t{64} << 20;

// What each request may still take; a request that is done, or that has to wait, takes nothing.
class Masks {
 public:
  Masks(const Filter& filter, const std::deque<Selection>& selections, std::size_t n_rows)
      : filter_(filter), nothing_(n_rows) {
    const std::size_t n_most =
        std::max<std::size_t>(1, kMaskBytes / std::max<std::size_t>(1, n_rows));
    for (std::size_t i = 0; i < selections.size(); ++i) {
      numbers_.push_back(static_cast<std::int64_t>(i));
      if (selections[i].is_done() || masks_.size() == n_most) {
        pointers_.push_back(nothing_.data());
        continue;
      }
      masks_.push_back(allow_mask_of(filter, i, n_rows));
      selections[i].narrow(&masks_.back());
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

void write(const Selection& selection, std::size_t request, const Pass& pass) {
  std::vector<Neighbor> picks = selection.picks();
  std::sort(picks.begin(), picks.end(), is_better);
  pass.answer.counts[request] = static_cast<std::int64_t>(picks.size());
  picks.resize(pass.top_n, {-std::numeric_limits<float>::infinity(), -1});
  for (std::size_t i = 0; i < pass.top_n; ++i) {
    pass.answer.scores[request * pass.top_n + i] = picks[i].score;
    pass.answer.rows[request * pass.top_n + i] = picks[i].row;
  }
  if (pass.answer.missing == nullptr) return;
  selection.write_missing(pass.answer.missing + request * pass.variety.n_quotas);
}

}  // namespace

void run_varied(const Pass& pass, std::size_t n, std::size_t n_rows, std::size_t n_candidates,
                const std::function<void(const Pass&)>& run) {
  std::deque<Selection> selections;
  for (std::size_t i = 0; i < n; ++i) selections.emplace_back(pass.variety, i, pass.top_n);
  const std::size_t most = std::max<std::size_t>(1, n_rows);
  Candidates found(n, std::min(most, std::max(pass.top_n, n_candidates)));
  Pass round = pass;
  round.answer = {found.scores.data(),  found.rows.data(), found.counts.data(),
                  found.sources.data(), nullptr,           nullptr};
  round.top_n = found.width;
  round.variety = {};
  const auto is_done = [](const Selection& selection) { return selection.is_done(); };
  for (bool is_first = true;
       is_first || !std::all_of(selections.begin(), selections.end(), is_done); is_first = false) {
    std::optional<Masks> masks;
    if (!is_first) {
      masks.emplace(pass.filter, selections, n_rows);
      round.filter = masks->filter();
    }
    run(round);
    if (is_first) std::copy(found.sources.begin(), found.sources.end(), pass.answer.sources);
    for (std::size_t i = 0; i < n; ++i) {
      const bool is_asked = !masks || masks->has(i);
      if (is_asked && !selections[i].is_done()) found.offer_to(selections[i], i);
    }
  }
  for (std::size_t i = 0; i < n; ++i) write(selections[i], i, pass);
}

}  // namespace shortlist::engine
