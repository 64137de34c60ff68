#include "engine/user_session.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>

#include "engine/column_values.hpp"
#include "engine/history_target.hpp"
#include "engine/session_columns.hpp"
#include "src/system/forks.hpp"

namespace shortlist::engine {
namespace {

std::int64_t row_of(const IndexView& view, const ItemName& item) {
  return view.id_kind() == ItemIds::Kind::string ? view.row_of(item.text)
                                                 : view.row_of(item.number);
}

// Appends the rows of packed events.
void add_rows(const IndexView& view, std::string_view packed, std::vector<std::int64_t>* rows) {
  if (view.id_kind() == ItemIds::Kind::string) {
    while (!packed.empty()) rows->push_back(view.row_of(unpack(&packed).item.text));
    return;
  }
  std::vector<std::int64_t> numbers;
  while (!packed.empty()) numbers.push_back(unpack(&packed).item.number);
  const std::size_t n = rows->size();
  rows->resize(n + numbers.size());
  view.rows_of(numbers.data(), numbers.size(), rows->data() + n);
}

bool is_among(const ItemName& item, const std::vector<Event>& events) {
  return std::any_of(events.begin(), events.end(),
                     [&](const Event& one) { return one.item == item; });
}

// The packed events without those of given items; counts those that are left.
std::string without(std::string_view packed, const std::vector<Event>& gone, std::uint32_t* n) {
  std::string left;
  while (!packed.empty()) {
    const Event event = unpack(&packed);
    if (is_among(event.item, gone)) continue;
    pack(event, &left);
    ++*n;
  }
  return left;
}

const char* why_not_by_state(const LoadedBundle& bundle) {
  if (!bundle.has_session_encoder()) return "the bundle has no session_encoder.onnx";
  return bundle.graph().has_reranker() ? "the second stage reads the history" : nullptr;
}

}  // namespace

UserSession::UserSession(std::string_view key, const LoadedBundle& bundle, const Call& request) {
  if (key.size() > std::numeric_limits<std::uint16_t>::max()) {
    throw std::invalid_argument("key: got " + std::to_string(key.size()) +
                                " bytes; expected at most 65535");
  }
  n_key_ = static_cast<std::uint16_t>(key.size());
  packed_.replace_from(0, key);
  begin(bundle, request);
}

// Takes a request apart: what stays the same, and the events, its own or the stored ones.
void UserSession::begin(const LoadedBundle& bundle, const Call& request) {
  const SessionColumns checked(bundle, request);
  std::vector<Event> events = checked.events();
  const IndexView& known = bundle.exported()->view();
  std::string fixed, packed;
  pack_columns(request.columns, request.n_columns, &fixed);
  packed_.replace_from(n_key_, fixed);
  n_fixed_ = static_cast<std::uint32_t>(fixed.size());
  const std::int64_t user = stored_user(bundle);
  has_stored_ = user >= 0 && std::none_of(events.begin(), events.end(), [&](const Event& event) {
                  return row_of(known, event.item) >= 0;
                });
  if (has_stored_) {
    std::vector<Event> stored = stored_events(*bundle.users(), user);
    events.insert(events.begin(), stored.begin(), stored.end());
  }
  for (const Event& event : events) pack(event, &packed);
  n_events_ = static_cast<std::uint32_t>(events.size());
  packed_.replace_from(events_begin(), packed);
}

std::size_t UserSession::n_bytes() const {
  return block_size(this) + packed_.n_bytes() + block_size(found_.get());
}

void UserSession::append(const LoadedBundle& bundle, const std::vector<Event>& events) {
  if (events.empty()) return;
  if (bundle.bundle().manifest.is_dislike(events[0].kind)) return forget(events);
  std::string packed;
  for (const Event& event : events) pack(event, &packed);
  const Uncut uncut;
  if (n_hidden_ > 0) {
    std::uint32_t n_left = 0;
    const std::string left = without(hidden(), events, &n_left);
    if (left.size() < n_hidden_) put(left, std::string(this->events()));
  }
  packed_.replace_from(packed_.size(), packed);
  n_events_ += static_cast<std::uint32_t>(events.size());
}

void UserSession::forget(const std::vector<Event>& events) {
  std::uint32_t n_hidden = 0, n_left = 0;
  std::string hidden = without(this->hidden(), events, &n_hidden);
  for (const Event& event : events) pack({event.item, {}, kNoTime}, &hidden);
  const std::string left = without(this->events(), events, &n_left);
  const Uncut uncut;
  put(hidden, left);
  n_events_ = n_left;
  drop_state();
}

void UserSession::put(const std::string& hidden, const std::string& events) {
  packed_.replace_from(std::size_t{n_key_} + n_fixed_, hidden + events);
  n_hidden_ = static_cast<std::uint32_t>(hidden.size());
}

void UserSession::drop_state() {
  found_.reset();
  n_done_ = n_known_ = of_ = 0;
  last_time_ = kNoTime;
}

SessionCounts UserSession::recommend(const LoadedBundle& bundle, const Catalogue& catalogue,
                                     const Call& call, std::int64_t now, const AnswerView& answer) {
  if (why_not_by_state(bundle) == nullptr) {
    step_all(bundle);
    if (found_ != nullptr) return search(bundle, catalogue, call, answer);
  }
  return compute(bundle, catalogue, call, now, answer);
}

// Takes the encoder over the events that are not in the state yet.
void UserSession::step_all(const LoadedBundle& bundle) {
  const auto number = static_cast<std::uint32_t>(bundle.number());
  if (of_ != number) {
    n_restarts_ += n_steps_ > 0;
    drop_state();
    of_ = number;
  }
  std::vector<Event> fresh;
  const IndexView& known = bundle.exported()->view();
  for (std::string_view rest = events().substr(n_done_); !rest.empty();) {
    const Event event = unpack(&rest);
    if (row_of(known, event.item) >= 0) fresh.push_back(event);
  }
  const std::size_t n_known = fresh.size(), most = bundle.bundle().manifest.max_history;
  if (found_ == nullptr && n_known > most) {  // as the encoder: from the oldest that it looks at
    fresh.erase(fresh.begin(), fresh.end() - static_cast<std::ptrdiff_t>(most));
  }
  if (!fresh.empty()) {
    std::unique_ptr<float[]> made;
    if (found_ == nullptr) made = std::make_unique<float[]>(bundle.session_width());
    const UnpackedColumns fixed(packed_.view().substr(n_key_, n_fixed_));
    std::vector<float> found(bundle.session_width());
    if (found_ != nullptr) std::copy_n(found_.get(), found.size(), found.data());
    bundle.step_session(fixed.columns(), fresh, last_time_, found_ == nullptr, found.data());
    const Uncut uncut;
    if (made != nullptr) found_ = std::move(made);
    std::copy(found.begin(), found.end(), found_.get());
    last_time_ = fresh.back().time;
  }
  const Uncut uncut;
  n_steps_ += static_cast<std::uint32_t>(fresh.size());
  n_known_ += static_cast<std::uint32_t>(n_known);
  n_done_ = static_cast<std::uint32_t>(events().size());
}

std::int64_t UserSession::stored_user(const LoadedBundle& bundle) const {
  const UnpackedColumns fixed(packed_.view().substr(n_key_, n_fixed_));
  const std::vector<std::int64_t> rows =
      find_users(bundle.users(), bundle.bundle().manifest.user_id_dtype == "string",
                 fixed.columns().data(), fixed.columns().size(), 1);
  return rows.empty() ? -1 : rows[0];
}

// What the caller excludes, what is hidden, and what was seen beside what the graph is told.
std::vector<std::int64_t> UserSession::excluded(const LoadedBundle& bundle,
                                                const Catalogue& catalogue, const Call& call,
                                                bool with_seen) const {
  std::vector<std::int64_t> rows;
  const RaggedRows& given = call.filter.exclude;
  if (given.splits != nullptr) {
    rows.assign(given.values + given.splits[0], given.values + given.splits[1]);
  }
  if (!call.exclude_seen) return rows;
  const auto add = [&](std::string_view packed) { add_rows(catalogue.view(), packed, &rows); };
  add(hidden());
  if (!with_seen) return rows;
  add(events());
  const std::int64_t user = has_stored_ ? -1 : stored_user(bundle);
  if (user < 0) return rows;
  for (const Event& event : stored_events(*bundle.users(), user)) {
    rows.push_back(row_of(catalogue.view(), event.item));
  }
  return rows;
}

// Searches with the embedding that the steps have left.
SessionCounts UserSession::search(const LoadedBundle& bundle, const Catalogue& catalogue, Call call,
                                  const AnswerView& answer) const {
  const std::vector<std::int64_t> rows = excluded(bundle, catalogue, call, true);
  const std::int64_t splits[] = {0, static_cast<std::int64_t>(rows.size())};
  call.filter.exclude = {rows.data(), splits};
  std::optional<HistoryTarget> shares;
  std::optional<SessionHistory> history;
  if (call.variety.calibration.is_from_history != nullptr) {
    history.emplace(bundle, events(), kNoTime);
    shares.emplace(call.variety.calibration, history->bound(), 0, 1, catalogue.view());
    call.variety.calibration = shares->get();
  }
  catalogue.view().search({found_.get(), 1, catalogue.view().dim()}, call.top_n, call.filter,
                          call.variety, bundle.n_threads(),
                          {answer.scores, answer.rows, answer.counts, answer.missing});
  answer.sources[0] = SHORTLIST_HISTORY;
  if (answer.stages != nullptr) answer.stages[0] = 1;
  return counts(bundle, n_known_);
}

SessionCounts UserSession::compute(const LoadedBundle& bundle, const Catalogue& catalogue,
                                   Call call, std::int64_t now, const AnswerView& answer) const {
  const SessionHistory history(bundle, events(), now);
  const UnpackedColumns fixed(packed_.view().substr(n_key_, n_fixed_));
  std::vector<shortlist_column> columns = fixed.columns();
  columns.insert(columns.end(), history.columns().begin(), history.columns().end());
  call.columns = columns.data();
  call.n_columns = columns.size();
  const unsigned char is_joined = 1;
  if (has_stored_) call.is_joined = &is_joined;
  const std::vector<std::int64_t> rows = excluded(bundle, catalogue, call, false);
  const std::int64_t splits[] = {0, static_cast<std::int64_t>(rows.size())};
  if (!rows.empty()) call.filter.exclude = {rows.data(), splits};
  bundle.recommend(call, catalogue, answer);
  return counts(bundle, history.n_known());
}

SessionCounts UserSession::counts(const LoadedBundle& bundle, std::size_t n_known) const {
  SessionCounts counts{n_events_, n_known, false, 0, {}};
  const UnpackedColumns fixed(packed_.view().substr(n_key_, n_fixed_));
  for (const shortlist_column& column : fixed.columns()) {
    if (column.name != std::string_view(kUserId)) continue;
    counts.has_user = true;
    ++counts.n_given;
    counts.n_known += stored_user(bundle) >= 0;
    if (column.texts != nullptr) {
      counts.user_text = text_of(column, 0);
    } else {
      counts.user_number = column.numbers[0];
    }
  }
  return counts;
}

SessionReport UserSession::report(const LoadedBundle& bundle) const {
  const char* const why = why_not_by_state(bundle);
  SessionReport report;
  report.has_state = why == nullptr;
  report.why = why == nullptr ? "session_encoder.onnx takes the state and one item" : why;
  report.n_items = n_events_;
  report.n_steps = n_steps_;
  report.n_restarts = n_restarts_;
  report.n_bytes = n_bytes();
  return report;
}

void UserSession::each_event(const std::function<void(const Event&)>& each) const {
  for (std::string_view rest = events(); !rest.empty();) each(unpack(&rest));
}

}  // namespace shortlist::engine
