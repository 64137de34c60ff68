// What one user does, event after event, and lists that know of it at once (internal).
// docs/sessions.md tells what holds.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/call.hpp"
#include "engine/catalogue.hpp"
#include "engine/loaded_bundle.hpp"
#include "engine/packed_events.hpp"

namespace shortlist::engine {

struct SessionReport {
  bool has_state = false;  // an event is one step; else the history is encoded every time
  const char* why = "";
  std::size_t n_items = 0;
  std::size_t n_steps = 0;     // of the encoder
  std::size_t n_restarts = 0;  // how often the state was made anew
  std::size_t n_bytes = 0;
};

// What a list was made from.
struct SessionCounts {
  std::size_t n_given = 0;  // ids of items, and of the user
  std::size_t n_known = 0;  // those that the bundle knows
  bool has_user = false;
  std::int64_t user_number = 0;
  std::string user_text;
};

// All functions but the first two throw std::invalid_argument for what the caller gave; then
// nothing has changed. Those that take a bundle may be called with another one at any time: a state
// is made anew then. One call at a time; SessionStore sees to it.
class UserSession {
 public:
  // `key` is the store's. `request` is a call of one request: what is known at first. Ages of its
  // history are refused.
  UserSession(std::string_view key, const LoadedBundle& bundle, const Call& request);
  UserSession(const UserSession&) = delete;
  UserSession& operator=(const UserSession&) = delete;

  std::string_view key() const { return packed_.view().substr(0, n_key_); }
  // What the allocator keeps for it.
  std::size_t n_bytes() const;

  // A kind that means dislike to the bundle forgets the items.
  void append(const LoadedBundle& bundle, const std::vector<Event>& events);
  // Takes items out of the history; they stay excluded as seen.
  void forget(const std::vector<Event>& events);
  // Answers `call`, of one request without columns. `now` is what ages count from; kNoTime = the
  // newest event.
  SessionCounts recommend(const LoadedBundle& bundle, const Catalogue& catalogue, const Call& call,
                          std::int64_t now, const AnswerView& answer);
  SessionReport report(const LoadedBundle& bundle) const;
  // Calls `each` with every event of the history, oldest first.
  void each_event(const std::function<void(const Event&)>& each) const;

  // Of the store, which alone reads and writes them.
  UserSession* chain = nullptr;
  UserSession* older = nullptr;
  UserSession* newer = nullptr;
  std::atomic<std::uint32_t> n_holders{1};
  std::uint32_t n_counted = 0;
  bool is_kept = false;

 private:
  struct Unpacked;

  std::size_t events_begin() const { return std::size_t{n_key_} + n_fixed_ + n_hidden_; }
  std::string_view hidden() const { return packed_.view().substr(n_key_ + n_fixed_, n_hidden_); }
  std::string_view events() const { return packed_.view().substr(events_begin()); }
  void begin(const LoadedBundle& bundle, const Call& request);
  void put(const std::string& hidden, const std::string& events);
  void drop_state();
  void step_all(const LoadedBundle& bundle);
  SessionCounts search(const LoadedBundle& bundle, const Catalogue& catalogue, Call call,
                       const AnswerView& answer) const;
  SessionCounts compute(const LoadedBundle& bundle, const Catalogue& catalogue, Call call,
                        std::int64_t now, const AnswerView& answer) const;
  std::vector<std::int64_t> excluded(const LoadedBundle& bundle, const Catalogue& catalogue,
                                     const Call& call, bool with_seen) const;
  std::int64_t stored_user(const LoadedBundle& bundle) const;
  SessionCounts counts(const LoadedBundle& bundle, std::size_t n_known) const;

  PackedBytes packed_;                        // key, columns of the request, hidden items, events
  std::unique_ptr<float[]> found_;            // the embedding, then the state
  std::int64_t last_time_ = kNoTime;          // of the last event that is in the state
  std::uint32_t n_fixed_ = 0, n_hidden_ = 0;  // bytes
  std::uint32_t n_done_ = 0;                  // bytes of events that are in the state
  std::uint32_t n_events_ = 0, n_known_ = 0;  // events; those in the state that the bundle knows
  std::uint32_t of_ = 0;                      // the number of the bundle whose state it is
  std::uint32_t n_steps_ = 0, n_restarts_ = 0;
  std::uint16_t n_key_ = 0;
  bool has_stored_ = false;  // the history began with the stored one
};

}  // namespace shortlist::engine
