// From columns to answers: the calls of a loaded bundle, cut into batches, each one run of the
// graph.
#include <algorithm>
#include <limits>

#include "engine/batch.hpp"
#include "engine/merged_call.hpp"

namespace shortlist::engine {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

}  // namespace

void LoadedBundle::recommend(const Call& call, const Catalogue& catalogue,
                             const AnswerView& answer) const {
  if (batcher_ == nullptr || call.n_requests != 1 || has_filter(call.filter) ||
      call.variety.is_set()) {
    return recommend_now(call, catalogue, answer);
  }
  const std::vector<BoundColumn> bound = bind(call);
  const std::vector<std::int64_t> user_rows = users_of(call);
  const std::int64_t user_row = user_rows.empty() ? -1 : user_rows[0];
  batcher_->answer({&call, &catalogue, &bound, user_row, &answer});
}

void LoadedBundle::recommend_now(const Call& call, const Catalogue& catalogue,
                                 const AnswerView& answer) const {
  Target target{answer};
  run_call(call, catalogue, target);
}

void LoadedBundle::recommend_together(const std::vector<const SingleRequest*>& requests) const {
  const SingleRequest& first = *requests[0];
  if (requests.size() == 1) {
    Target target{*first.answer};
    return run_batches(*first.call, *first.catalogue, *first.bound, {first.user_row}, target);
  }
  MergedCall merged(requests);
  Target target{merged.answer()};
  run_batches(merged.call(), *first.catalogue, merged.bound(), merged.user_rows(), target);
  merged.hand_out();
}

void LoadedBundle::encode_users(const Call& call, const Catalogue& catalogue,
                                float* embeddings) const {
  std::vector<float> scores(call.n_requests);
  std::vector<std::int64_t> rows(call.n_requests), counts(call.n_requests),
      sources(call.n_requests);
  Call one = call;
  one.top_n = one.stages = 1;
  Target target{{scores.data(), rows.data(), counts.data(), sources.data()}, embeddings};
  target.needs_index = true;
  run_call(one, catalogue, target);
}

// The given items are all that is allowed, and all of them come back.
void LoadedBundle::score(const Call& call, const Catalogue& catalogue, const std::int64_t* rows,
                         std::size_t n, float* scores) const {
  const std::size_t n_places = call.n_requests * n;
  std::fill_n(scores, n_places, kNoScore);
  if (n_places == 0) return;
  std::vector<std::int64_t> splits, found(n_places), counts(call.n_requests),
      sources(call.n_requests);
  std::vector<float> found_scores(n_places);
  for (std::size_t i = 0; i <= call.n_requests; ++i) {
    splits.push_back(static_cast<std::int64_t>(i * n));
  }
  Call all = call;
  all.top_n = n;
  all.exclude_seen = false;
  all.filter = {};
  all.filter.allow = {rows, splits.data()};
  all.variety = {};
  Target target{{found_scores.data(), found.data(), counts.data(), sources.data()}, nullptr, true};
  target.needs_index = true;
  run_call(all, catalogue, target);
  std::vector<std::size_t> by_found(n), by_given(n);
  for (std::size_t first = 0; first < n_places; first += n) {
    const auto rank = [first](std::vector<std::size_t>& order, const std::int64_t* values) {
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = first + i;
      std::sort(order.begin(), order.end(), [values](std::size_t one, std::size_t other) {
        return values[one] < values[other];
      });
    };
    rank(by_found, found.data());
    rank(by_given, rows);
    std::size_t at = 0;
    for (const std::size_t position : by_given) {
      while (at < n && found[by_found[at]] < rows[position]) ++at;
      if (rows[position] < 0 || at == n || found[by_found[at]] != rows[position]) continue;
      scores[position] = found_scores[by_found[at]];
    }
  }
}

std::vector<std::size_t> LoadedBundle::batch_starts(const Call& call) const {
  const std::vector<BoundColumn> bound = bind(call);
  std::vector<std::size_t> starts;
  for (std::size_t first = 0; first < call.n_requests;) {
    starts.push_back(first);
    first += batch_size(bound, first, call.n_requests);
  }
  return starts;
}

std::vector<BoundColumn> LoadedBundle::bind(const Call& call) const {
  return bind_columns(graph_->inputs(), call.columns, call.n_columns, call.n_requests);
}

std::vector<std::int64_t> LoadedBundle::users_of(const Call& call) const {
  return find_users(users_.get(), bundle_.manifest.user_id_dtype == "string", call.columns,
                    call.n_columns, call.n_requests);
}

void LoadedBundle::run_call(const Call& call, const Catalogue& catalogue, Target& target) const {
  run_batches(call, catalogue, bind(call), users_of(call), target);
}

// `user_rows` may be empty: no user is known.
void LoadedBundle::run_batches(const Call& call, const Catalogue& catalogue,
                               const std::vector<BoundColumn>& bound,
                               const std::vector<std::int64_t>& user_rows, Target& target) const {
  const std::size_t n = call.n_requests;
  for (std::size_t first = 0; first < n;) {
    if (first > 0 && call.between_batches != nullptr) (*call.between_batches)();
    const std::size_t n_now = batch_size(bound, first, n);
    const std::int64_t* rows = user_rows.empty() ? nullptr : user_rows.data() + first;
    const bool is_known =
        rows != nullptr && std::any_of(rows, rows + n_now, [](auto row) { return row >= 0; });
    run_joined(bound, {call, catalogue, bound, is_known ? rows : nullptr, first, n_now}, target);
    first += n_now;
  }
}

void LoadedBundle::run_joined(const std::vector<BoundColumn>& bound, const Batch& batch,
                              Target& target) const {
  std::int64_t* const sources = target.answer.sources + batch.first;
  if (batch.user_rows == nullptr) {
    run(bound, batch.first, batch, nullptr, target);
  } else {
    const unsigned char* const is_joined =
        batch.call.is_joined == nullptr ? nullptr : batch.call.is_joined + batch.first;
    const JoinedBatch joined(*users_, first_->view(), batch.catalogue.view(),
                             bundle_.manifest.max_history, bound, batch.user_rows, is_joined,
                             batch.first, batch.n);
    run(joined.bound(), 0, batch, &joined, target);
    for (std::size_t i = 0; i < batch.n; ++i) {
      if (sources[i] == SHORTLIST_HISTORY && joined.is_stored(i)) {
        sources[i] = SHORTLIST_STORED_HISTORY;
      }
    }
  }
  if (target.answer.stages == nullptr) return;
  const std::int8_t most = graph_->has_reranker() && batch.call.stages != 1 ? 2 : 1;
  for (std::size_t i = 0; i < batch.n; ++i) {
    target.answer.stages[batch.first + i] = sources[i] == SHORTLIST_POPULAR    ? std::int8_t{0}
                                            : sources[i] == SHORTLIST_FEATURES ? std::int8_t{1}
                                                                               : most;
  }
}

}  // namespace shortlist::engine
