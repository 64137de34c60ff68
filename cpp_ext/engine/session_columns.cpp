#include "engine/session_columns.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace shortlist::engine {
namespace {

constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();

bool is_text(const Input& input) {
  return input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
}

// Missing entries stand to the left of a history that is as wide as others.
bool is_entry(const Event& event) {
  return !event.item.text.empty() || event.item.number != kMissing;
}

}  // namespace

SessionColumns::SessionColumns(const LoadedBundle& bundle, const Call& request) {
  if (request.n_requests != 1) {
    throw std::invalid_argument("request: got " + std::to_string(request.n_requests) +
                                " requests; expected one");
  }
  const std::vector<BoundColumn> bound =
      bind_columns(bundle.graph().inputs(), request.columns, request.n_columns, 1);
  const shortlist_column *history = nullptr, *kinds = nullptr;
  for (const BoundColumn& column : bound) {
    if (column.given == nullptr) continue;
    if (column.input->name == "history") history = column.given;
    if (column.input->name == "history_kinds") kinds = column.given;
    if (column.input->name == "history_ages") {
      throw std::invalid_argument(
          "request: got history_ages, expected times: append them with a timestamp");
    }
  }
  if (history == nullptr) return;
  const Span span = span_of(*history, 0);
  for (std::size_t i = span.from; i < span.from + span.size; ++i) {
    Event event;
    if (bundle.graph().has_texts()) {
      event.item.text = text_of(*history, i);
      event.item.number = kMissing;
    } else {
      event.item.number = history->numbers[i];
    }
    if (kinds != nullptr) event.kind = text_of(*kinds, i);
    if (is_entry(event)) events_.push_back(event);
  }
}

std::vector<Event> stored_events(const StoredUsers& users, std::int64_t user) {
  std::vector<Event> events;
  const ArrowColumn& items = users.items();
  for (std::size_t k = users.first_of(user); k < users.last_of(user); ++k) {
    Event event;
    if (items.kind == ArrowColumn::Kind::text) {
      event.item.text = items.text_at(k);
    } else {
      event.item.number = items.integer_at(k);
    }
    if (users.has_kinds()) event.kind = users.kind_at(k);
    if (users.has_times()) event.time = users.time_at(k);
    events.push_back(event);
  }
  return events;
}

SessionHistory::SessionHistory(const LoadedBundle& bundle, std::string_view events,
                               std::int64_t now) {
  std::vector<Event> all;
  std::int64_t newest = kNoTime;
  const IndexView& known = bundle.exported()->view();
  while (!events.empty()) {
    const Event& event = all.emplace_back(unpack(&events));
    newest = std::max(newest, event.time);
    const std::int64_t row = bundle.graph().has_texts() ? known.row_of(event.item.text)
                                                        : known.row_of(event.item.number);
    n_known_ += row >= 0;
  }
  if (now != kNoTime) newest = now;
  for (const Input& input : bundle.graph().inputs()) {
    if (!is_history(input)) continue;
    ColumnValues& values = values_.emplace_back(input);
    for (const Event& event : all) {
      if (input.name == "history_ages") {
        values.floats.push_back(event.time == kNoTime ? std::nanf("")
                                                      : seconds_between(event.time, newest));
      } else if (input.name == "history_kinds") {
        values.texts.push_back({event.kind.data(), event.kind.size()});
      } else if (is_text(input)) {
        values.texts.push_back({event.item.text.data(), event.item.text.size()});
      } else {
        values.numbers.push_back(event.item.number);
      }
    }
    values.end_request();
  }
  for (const ColumnValues& values : values_) columns_.push_back(values.column());
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    bound_.push_back({&values_[i].input, &columns_[i]});
  }
}

}  // namespace shortlist::engine
