// One batch as one run of a graph: what goes in, who answers, where the answer goes.
#include <algorithm>
#include <limits>
#include <optional>

#include "engine/batch.hpp"
#include "engine/column_values.hpp"
#include "engine/history_target.hpp"
#include "engine/varied_run.hpp"

namespace shortlist::engine {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

AnswerView part_of(AnswerView answer, const Call& call, std::size_t first) {
  answer.scores += first * call.top_n;
  answer.rows += first * call.top_n;
  answer.counts += first;
  answer.sources += first;
  if (answer.missing != nullptr) answer.missing += first * call.variety.n_quotas;
  return answer;
}

// The outputs of a run, in the order of kOutputs: right in the answer to n requests, or beside it
// where the run has more rows, or fewer items a row than the answer.
class Output {
 public:
  Output(const Session& session, const AnswerView& answer, std::size_t top_n, std::size_t n,
         std::size_t n_rows, std::size_t width)
      : answer_(answer), top_n_(top_n), n_(n), width_(width) {
    AnswerView room = answer;
    if (n_rows > n || width < top_n) {
      scores_.resize(n_rows * width);
      rows_.resize(n_rows * width);
      counts_.resize(n_rows);
      sources_.resize(n_rows);
      room = {scores_.data(), rows_.data(), counts_.data(), sources_.data(), nullptr, nullptr};
    }
    values_.push_back(session.over(room.scores, n_rows, width, kFloat));
    values_.push_back(session.over(room.rows, n_rows, width, kNumber));
    values_.push_back(session.over(room.counts, n_rows, 0, kNumber));
    values_.push_back(session.over(room.sources, n_rows, 0, kNumber));
  }

  std::vector<Handle<OrtValue>>* values() { return &values_; }
  // Brings what was written beside the answer into it.
  void hand_out() const {
    if (counts_.empty()) return;
    for (std::size_t i = 0; i < n_; ++i) {
      float* const scores = answer_.scores + i * top_n_;
      std::int64_t* const rows = answer_.rows + i * top_n_;
      std::copy_n(scores_.data() + i * width_, width_, scores);
      std::copy_n(rows_.data() + i * width_, width_, rows);
      std::fill(scores + width_, scores + top_n_, kNoScore);
      std::fill(rows + width_, rows + top_n_, -1);
    }
    std::copy_n(counts_.begin(), n_, answer_.counts);
    std::copy_n(sources_.begin(), n_, answer_.sources);
  }

 private:
  AnswerView answer_;
  std::size_t top_n_, n_, width_;
  std::vector<float> scores_;
  std::vector<std::int64_t> rows_, counts_, sources_;
  std::vector<Handle<OrtValue>> values_;
};

}  // namespace

// What each request must not get beyond what the graph excludes by itself: false where that is
// nothing. The graph knows its own history's items, unless items have changed since.
bool LoadedBundle::list_exclusions(const Batch& batch, const JoinedBatch* joined,
                                   std::vector<std::int64_t>* values,
                                   std::vector<std::int64_t>* splits) const {
  const Call& call = batch.call;
  const bool has_lists = call.filter.exclude.splits != nullptr;
  const bool has_skips = call.exclude_seen && call.skipped.splits != nullptr;
  const JoinedBatch* const stored = call.exclude_seen ? joined : nullptr;
  const bool has_own = call.exclude_seen && !batch.catalogue.is_as_exported();
  if (!has_lists && !has_skips && stored == nullptr && !has_own) return false;
  const auto history = std::find_if(batch.given.begin(), batch.given.end(), [](const auto& column) {
    return column.input->name == "history";
  });
  const auto add = [values](const RaggedRows& rows, std::size_t i) {
    values->insert(values->end(), rows.values + rows.splits[i], rows.values + rows.splits[i + 1]);
  };
  splits->push_back(0);
  for (std::size_t i = 0; i < batch.n; ++i) {
    if (has_lists) add(call.filter.exclude, batch.first + i);
    if (has_skips) add(call.skipped, batch.first + i);
    if (stored != nullptr) add({stored->seen().data(), stored->seen_splits().data()}, i);
    if (has_own && history->given != nullptr) {
      const auto [from, size] = span_of(*history->given, batch.first + i);
      for (std::size_t k = from; k < from + size; ++k) {
        values->push_back(row_in(batch.catalogue.view(), *history, k));
      }
    }
    splits->push_back(static_cast<std::int64_t>(values->size()));
  }
  return true;
}

// The portable graph knows no filter, no other items, not what a user skipped or has seen beside
// what it is given, and runs all its stages.
bool LoadedBundle::is_for_portable(const Batch& batch, const JoinedBatch* joined,
                                   const Target& target) const {
  if (portable_ == nullptr || target.needs_index || !portable_->takes(batch.n)) return false;
  const Call& call = batch.call;
  const bool has_all_stages = call.stages != 1 || !graph_->has_reranker();
  const bool is_plain =
      !has_filter(call.filter) && !call.variety.is_set() && call.skipped.splits == nullptr;
  return is_plain && has_all_stages && batch.catalogue.is_as_exported() &&
         (joined == nullptr || joined->shows_all_seen());
}

// Where shapes must not change; no room where the batch runs as it is. A call for more items than
// there are has an answer that may only just fit into memory.
Room LoadedBundle::room_for(const std::vector<BoundColumn>& bound, std::size_t first_column,
                            const Batch& batch) const {
  const std::size_t size = fixed_.size_for(batch.n);
  const Room room{size, bundle_.manifest.max_history};
  const bool fits = size > 0 && batch.call.top_n <= batch.catalogue.view().n_rows() &&
                    is_room_in_batch(bound, first_column, batch.n, room);
  return fits ? room : Room{};
}

void LoadedBundle::run(const std::vector<BoundColumn>& bound, std::size_t first_column,
                       const Batch& batch, const JoinedBatch* joined, Target& target) const {
  const Call& call = batch.call;
  Pass pass{part_of(target.answer, call, batch.first), call.top_n,
            filter_from(call.filter, batch.first), variety_from(call.variety, batch.first),
            call.stages};
  std::optional<HistoryTarget> target_shares;
  if (pass.variety.calibration.is_from_history != nullptr) {
    target_shares.emplace(pass.variety.calibration, bound, first_column, batch.n,
                          batch.catalogue.view());
    pass.variety.calibration = target_shares->get();
  }
  const auto run_pass = [&](const Pass& one) {
    run_once(bound, first_column, batch, joined, target, one);
  };
  if (call.variety.is_set() && call.stages != 1 && graph_->has_reranker()) {
    run_varied(pass, batch.n, batch.catalogue.view(), bundle_.manifest.n_candidates, run_pass);
  } else {
    run_pass(pass);
  }
}

void LoadedBundle::run_once(const std::vector<BoundColumn>& bound, std::size_t first_column,
                            const Batch& batch, const JoinedBatch* joined, const Target& target,
                            const Pass& pass) const {
  const Call& call = batch.call;
  const bool is_portable = is_for_portable(batch, joined, target);
  const Session& session = is_portable ? portable_->session() : graph_->session();
  const Room room = is_portable ? Room{} : room_for(bound, first_column, batch);
  Feeds feeds;
  for (const BoundColumn& column : bound) {
    feeds.add(column.input->name.c_str(),
              make_input(session.api(), bound, column, first_column, batch.n, room));
  }
  // What a graph works on grows with what is asked of it: no more than there are items.
  const std::size_t n_items = std::max<std::size_t>(1, batch.catalogue.view().n_rows());
  const std::size_t width = std::min(pass.top_n, n_items);
  const auto top_n = static_cast<std::int64_t>(width);
  const std::int64_t one_stage = 1;
  const bool exclude_seen = false;
  feeds.add("top_n", session.over(&top_n, 1, 0, kNumber));
  if (!call.exclude_seen || !batch.catalogue.is_as_exported()) {
    feeds.add("exclude_seen", session.over(&exclude_seen, 1, 0, kBool));
  }
  if (pass.n_stages == 1 && graph_->has_reranker()) {
    feeds.add("stages", session.over(&one_stage, 1, 0, kNumber));
  }
  Output output(session, pass.answer, pass.top_n, batch.n, std::max(batch.n, room.n_rows), width);
  if (is_portable) {
    portable_->run(feeds, output.values());
    return output.hand_out();
  }

  std::vector<std::int64_t> values, splits;
  ort_op::SearchCall search = search_for(batch, target);
  search.filter = pass.filter;
  search.variety = pass.variety;
  search.missing = pass.answer.missing;
  if (list_exclusions(batch, joined, &values, &splits)) {
    search.filter.exclude = {values.data(), splits.data()};
  }
  search.has_full_width = room.n_rows > 0;
  graph_->run(feeds, search, output.values());
  output.hand_out();
}

ort_op::SearchCall LoadedBundle::search_for(const Batch& batch, const Target& target) const {
  const Call& call = batch.call;
  const Catalogue& catalogue = batch.catalogue;
  ort_op::SearchCall search;
  search.index = &catalogue.view();
  search.n_queries = batch.n;
  if (!catalogue.is_as_exported()) {
    search.codes = catalogue.codes().data();
    search.popular = &catalogue;
  }
  if (call.skipped.splits != nullptr) {
    search.skipped = {call.skipped.values, call.skipped.splits + batch.first};
  }
  search.scores_given = target.scores_given;
  if (target.embeddings != nullptr) {
    search.embeddings = target.embeddings + batch.first * catalogue.view().dim();
  }
  return search;
}

}  // namespace shortlist::engine
