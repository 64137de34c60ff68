#include "engine/merged_call.hpp"

#include <algorithm>

namespace shortlist::engine {
namespace {

// How many values one request has of an input that it does not give: kinds and ages one for each
// item of its history.
std::size_t n_missing(const Input& input, const std::vector<BoundColumn>& bound) {
  if (!is_ragged(input)) {
    return input.shape.size() == 2 ? static_cast<std::size_t>(input.shape[1]) : 1;
  }
  if (!is_history(input)) return 0;
  for (const BoundColumn& column : bound) {
    if (column.input->name != "history") continue;
    return column.given == nullptr ? 0 : span_of(*column.given, 0).size;
  }
  return 0;
}

}  // namespace

MergedCall::MergedCall(const std::vector<const SingleRequest*>& requests)
    : requests_(requests), call_(*requests[0]->call) {
  call_.n_requests = requests.size();
  call_.columns = nullptr;
  call_.n_columns = 0;
  call_.between_batches = nullptr;  // one caller's, and others wait with it
  for (std::size_t i = 0; i < requests[0]->bound->size(); ++i) merge_column(i);
  for (const SingleRequest* request : requests) user_rows_.push_back(request->user_row);
  merge_lists();
}

void MergedCall::merge_column(std::size_t number) {
  const Input& input = *(*requests_[0]->bound)[number].input;
  const bool is_given = std::any_of(requests_.begin(), requests_.end(), [number](const auto* one) {
    return (*one->bound)[number].given != nullptr;
  });
  if (!is_given) {
    bound_.push_back({&input, nullptr});
    return;
  }
  ColumnValues& values = values_.emplace_back(input);
  for (const SingleRequest* request : requests_) {
    const shortlist_column* const given = (*request->bound)[number].given;
    if (given == nullptr) {
      values.add_missing(n_missing(input, *request->bound));
    } else {
      values.add(*given, span_of(*given, 0));
    }
    values.end_request();
  }
  bound_.push_back({&input, &columns_.emplace_back(values.column())});
}

// What the requests' users skipped, and whose stored history is in its own.
void MergedCall::merge_lists() {
  bool has_skips = false, has_joined = false;
  skipped_splits_.push_back(0);
  for (const SingleRequest* request : requests_) {
    const Call& call = *request->call;
    has_joined |= call.is_joined != nullptr;
    is_joined_.push_back(call.is_joined == nullptr ? 0 : call.is_joined[0]);
    if (call.skipped.splits != nullptr) {
      has_skips = true;
      skipped_.insert(skipped_.end(), call.skipped.values + call.skipped.splits[0],
                      call.skipped.values + call.skipped.splits[1]);
    }
    skipped_splits_.push_back(static_cast<std::int64_t>(skipped_.size()));
  }
  call_.skipped = {};
  if (has_skips) call_.skipped = {skipped_.data(), skipped_splits_.data()};
  call_.is_joined = has_joined ? is_joined_.data() : nullptr;
}

AnswerView MergedCall::answer() {
  const std::size_t n = call_.n_requests, n_places = n * call_.top_n;
  scores_.resize(n_places);
  rows_.resize(n_places);
  counts_.resize(n);
  sources_.resize(n);
  stages_.resize(n);
  return {scores_.data(), rows_.data(), counts_.data(), sources_.data(), stages_.data()};
}

void MergedCall::hand_out() const {
  const std::size_t top_n = call_.top_n;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const AnswerView& answer = *requests_[i]->answer;
    std::copy_n(scores_.data() + i * top_n, top_n, answer.scores);
    std::copy_n(rows_.data() + i * top_n, top_n, answer.rows);
    *answer.counts = counts_[i];
    *answer.sources = sources_[i];
    if (answer.stages != nullptr) *answer.stages = stages_[i];
  }
}

}  // namespace shortlist::engine
