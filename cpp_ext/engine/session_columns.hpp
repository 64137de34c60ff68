// Between the events of a session and the columns of a request (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>
#include <vector>

#include "engine/column_values.hpp"
#include "engine/loaded_bundle.hpp"
#include "engine/packed_events.hpp"

namespace shortlist::engine {

// The request that a session begins with. Throws std::invalid_argument unless it is one request
// that the bundle takes, without ages.
class SessionColumns {
 public:
  SessionColumns(const LoadedBundle& bundle, const Call& request);

  // Of its own history; texts are borrowed of the request.
  const std::vector<Event>& events() const { return events_; }

 private:
  std::vector<Event> events_;
};

// The events of a stored user, whose texts are borrowed.
std::vector<Event> stored_events(const StoredUsers& users, std::int64_t user);

// Packed events as the columns of a request that the bundle takes. Ages count from `now`; kNoTime =
// the newest of them.
class SessionHistory {
 public:
  SessionHistory(const LoadedBundle& bundle, std::string_view events, std::int64_t now);
  SessionHistory(const SessionHistory&) = delete;
  SessionHistory& operator=(const SessionHistory&) = delete;

  const std::vector<shortlist_column>& columns() const { return columns_; }
  const std::vector<BoundColumn>& bound() const { return bound_; }
  // Events whose item the bundle came with.
  std::size_t n_known() const { return n_known_; }

 private:
  std::deque<ColumnValues> values_;
  std::vector<shortlist_column> columns_;
  std::vector<BoundColumn> bound_;
  std::size_t n_known_ = 0;
};

}  // namespace shortlist::engine
