// Sessions by key, as many as fit into a number of bytes (internal).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/user_session.hpp"
#include "src/system/forks.hpp"

namespace shortlist::engine {

class SessionStore;

// A session of a store, for as long as somebody holds it: also when the store has let it go. Any
// number of threads may call it; they take turns.
class [[gnu::visibility("default")]] SessionHandle {
 public:
  SessionHandle(std::shared_ptr<SessionStore> store, UserSession* session);
  SessionHandle(SessionHandle&& other) noexcept;
  ~SessionHandle();
  SessionHandle(const SessionHandle&) = delete;
  SessionHandle& operator=(const SessionHandle&) = delete;
  SessionHandle& operator=(SessionHandle&&) = delete;

  // As those of UserSession.
  void append(const LoadedBundle& bundle, const std::vector<Event>& events) const;
  void forget(const std::vector<Event>& events) const;
  SessionCounts recommend(const LoadedBundle& bundle, const Catalogue& catalogue, const Call& call,
                          std::int64_t now, const AnswerView& answer) const;
  SessionReport report(const LoadedBundle& bundle) const;
  void each_event(const std::function<void(const Event&)>& each) const;

 private:
  std::shared_ptr<SessionStore> store_;
  UserSession* session_;
};

// Where all sessions take more than max_bytes, those go that were not asked for longest; the last
// one asked for stays.
class [[gnu::visibility("default")]] SessionStore
    : public std::enable_shared_from_this<SessionStore> {
 public:
  static constexpr std::size_t kLeastBytes = 4096;

  // Throws std::invalid_argument for less than kLeastBytes.
  explicit SessionStore(std::size_t max_bytes);
  ~SessionStore();
  SessionStore(const SessionStore&) = delete;
  SessionStore& operator=(const SessionStore&) = delete;

  // The session of a key; a new one begins with the request, as UserSession says.
  SessionHandle get(std::string_view key, const LoadedBundle& bundle, const Call& request);
  // Whether there was one.
  bool drop(std::string_view key);
  bool has(std::string_view key) const;
  std::size_t size() const;
  // What the allocator keeps for the sessions and the table of their keys.
  std::size_t n_bytes() const;
  std::size_t max_bytes() const { return max_bytes_; }

 private:
  friend class SessionHandle;

  std::size_t total() const { return n_session_bytes_ + buckets_.size() * sizeof buckets_[0]; }
  UserSession** place_of(std::string_view key) const;
  void grow();
  void move_to_front(UserSession* session);
  void unlink(UserSession* session);
  void let_go(UserSession* session);
  // Counts what a session takes now, and lets others go. Its turn is the caller's.
  void settle(UserSession* session);

  std::size_t max_bytes_;
  ForkMutex changing_;  // of what follows; for moments
  mutable std::vector<UserSession*> buckets_;
  UserSession* newest_ = nullptr;
  UserSession* oldest_ = nullptr;
  std::size_t n_sessions_ = 0, n_session_bytes_ = 0;
};

}  // namespace shortlist::engine
