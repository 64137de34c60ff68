// An answer with its reasons: one request after the other.
#include <algorithm>
#include <limits>
#include <memory>

#include "engine/explained.hpp"

namespace shortlist::engine {
namespace {

// The exclusions of request i: what the call says, and all that counts as seen.
std::vector<std::int64_t> excluded_rows(const Call& call, std::size_t i, const BoundColumn& history,
                                        const IndexView& present, const JoinedBatch* joined) {
  std::vector<std::int64_t> rows;
  const auto add = [&rows](const RaggedRows& lists, std::size_t number) {
    if (lists.splits == nullptr) return;
    rows.insert(rows.end(), lists.values + lists.splits[number],
                lists.values + lists.splits[number + 1]);
  };
  add(call.filter.exclude, i);
  if (!call.exclude_seen) return rows;
  add(call.skipped, i);
  if (joined != nullptr) add({joined->seen().data(), joined->seen_splits().data()}, 0);
  if (history.given == nullptr) return rows;
  const auto [from, size] = span_of(*history.given, i);
  for (std::size_t k = from; k < from + size; ++k) rows.push_back(row_in(present, history, k));
  return rows;
}

}  // namespace

void LoadedBundle::explain(const Call& call, const Catalogue& catalogue,
                           const ReasonOptions& options, const AnswerView& answer,
                           const ReasonsView& reasons) const {
  const std::size_t n = call.n_requests, top_n = call.top_n, n_reasons = options.n_reasons;
  std::fill_n(reasons.what, n * top_n * n_reasons, kNoReason);
  std::fill_n(reasons.drops, n * top_n * n_reasons, 0.0F);
  std::fill_n(reasons.leaves, n * top_n * n_reasons, static_cast<unsigned char>(0));
  recommend_now(call, catalogue, answer);
  const std::vector<BoundColumn> bound = bind(call);
  const std::vector<std::int64_t> user_rows = users_of(call);
  const auto history = std::find_if(bound.begin(), bound.end(), [](const BoundColumn& column) {
    return column.input->name == "history";
  });
  for (std::size_t i = 0; i < n; ++i) {
    if (answer.sources[i] == SHORTLIST_POPULAR || answer.counts[i] == 0) continue;
    if (i > 0 && call.between_batches != nullptr) (*call.between_batches)();
    const std::int64_t* const listed = answer.rows + i * top_n;
    const std::int64_t* const last = listed + answer.counts[i];
    std::unique_ptr<const JoinedBatch> joined;
    if (!user_rows.empty() && user_rows[i] >= 0) {
      joined = std::make_unique<const JoinedBatch>(
          *users_, first_->view(), catalogue.view(), std::numeric_limits<std::size_t>::max(), bound,
          &user_rows[i], call.is_joined == nullptr ? nullptr : call.is_joined + i, i, 1);
    }
    const std::vector<BoundColumn>& own = joined == nullptr ? bound : joined->bound();
    const Evidence evidence(own, joined == nullptr ? i : 0, first_->view(),
                            bundle_.manifest.max_history, options.groups);
    Call served = call;
    if (answer.sources[i] == SHORTLIST_FEATURES) served.stages = 1;  // no other judges it
    const std::size_t place = i * top_n * n_reasons;
    Explained({*this, served, catalogue, options, own, i}, evidence,
              excluded_rows(call, i, *history, catalogue.view(), joined.get()), {listed, last})
        .find({reasons.what + place, reasons.drops + place, reasons.leaves + place});
  }
}

}  // namespace shortlist::engine
