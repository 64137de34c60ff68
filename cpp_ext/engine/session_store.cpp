#include "engine/session_store.hpp"

#include <array>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace shortlist::engine {
namespace {

constexpr std::size_t kTurns = 256;

// A lock in each of a million sessions would be as large as their events: some share one.
std::unique_lock<std::mutex> turn_of(const UserSession* session) {
  static const std::array<ForkMutex, kTurns> turns;
  return turns[std::hash<std::size_t>{}(reinterpret_cast<std::size_t>(session) / 64) % kTurns]
      .lock();
}

void release(UserSession* session) {
  if (session->n_holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete session;
}

}  // namespace

SessionHandle::SessionHandle(std::shared_ptr<SessionStore> store, UserSession* session)
    : store_(std::move(store)), session_(session) {
  session_->n_holders.fetch_add(1, std::memory_order_relaxed);
}

SessionHandle::SessionHandle(SessionHandle&& other) noexcept
    : store_(std::move(other.store_)), session_(std::exchange(other.session_, nullptr)) {}

SessionHandle::~SessionHandle() {
  if (session_ != nullptr) release(session_);
}

void SessionHandle::append(const LoadedBundle& bundle, const std::vector<Event>& events) const {
  const auto turn = turn_of(session_);
  session_->append(bundle, events);
  store_->settle(session_);
}

void SessionHandle::forget(const std::vector<Event>& events) const {
  const auto turn = turn_of(session_);
  session_->forget(events);
  store_->settle(session_);
}

SessionCounts SessionHandle::recommend(const LoadedBundle& bundle, const Catalogue& catalogue,
                                       const Call& call, std::int64_t now,
                                       const AnswerView& answer) const {
  const auto turn = turn_of(session_);
  const SessionCounts counts = session_->recommend(bundle, catalogue, call, now, answer);
  store_->settle(session_);
  return counts;
}

SessionReport SessionHandle::report(const LoadedBundle& bundle) const {
  const auto turn = turn_of(session_);
  return session_->report(bundle);
}

void SessionHandle::each_event(const std::function<void(const Event&)>& each) const {
  const auto turn = turn_of(session_);
  session_->each_event(each);
}

SessionStore::SessionStore(std::size_t max_bytes) : max_bytes_(max_bytes), buckets_(1) {
  if (max_bytes >= kLeastBytes) return;
  throw std::invalid_argument("max_bytes: got " + std::to_string(max_bytes) +
                              "; expected room for one session, at least " +
                              std::to_string(kLeastBytes));
}

SessionStore::~SessionStore() {
  while (newest_ != nullptr) {
    UserSession* const session = newest_;
    newest_ = session->older;
    release(session);
  }
}

SessionHandle SessionStore::get(std::string_view key, const LoadedBundle& bundle,
                                const Call& request) {
  {
    const auto lock = changing_.lock();
    if (UserSession* const found = *place_of(key)) {
      const Uncut uncut;
      move_to_front(found);
      return {shared_from_this(), found};
    }
  }
  auto made = std::make_unique<UserSession>(key, bundle, request);
  const auto lock = changing_.lock();
  const Uncut uncut;
  UserSession* session = *place_of(key);
  if (session == nullptr) {  // nobody was faster
    if (n_sessions_ >= buckets_.size()) grow();
    session = *place_of(key) = made.release();
    session->is_kept = true;
    session->n_counted = static_cast<std::uint32_t>(session->n_bytes());
    n_session_bytes_ += session->n_counted;
    ++n_sessions_;
  }
  SessionHandle handle(shared_from_this(), session);
  move_to_front(session);
  while (total() > max_bytes_ && oldest_ != newest_) let_go(oldest_);
  return handle;
}

bool SessionStore::drop(std::string_view key) {
  const auto lock = changing_.lock();
  UserSession* const found = *place_of(key);
  if (found == nullptr) return false;
  const Uncut uncut;
  let_go(found);
  return true;
}

bool SessionStore::has(std::string_view key) const {
  const auto lock = changing_.lock();
  return *place_of(key) != nullptr;
}

std::size_t SessionStore::size() const {
  const auto lock = changing_.lock();
  return n_sessions_;
}

std::size_t SessionStore::n_bytes() const {
  const auto lock = changing_.lock();
  return total();
}

// Where the key's session hangs, or would hang.
UserSession** SessionStore::place_of(std::string_view key) const {
  UserSession** place = &buckets_[std::hash<std::string_view>{}(key) & (buckets_.size() - 1)];
  while (*place != nullptr && (*place)->key() != key) place = &(*place)->chain;
  return place;
}

void SessionStore::grow() {
  buckets_ = std::vector<UserSession*>(2 * buckets_.size());
  for (UserSession* one = newest_; one != nullptr; one = one->older) {
    one->chain = nullptr;
    *place_of(one->key()) = one;
  }
}

void SessionStore::move_to_front(UserSession* session) {
  if (session == newest_) return;
  unlink(session);
  session->older = newest_;
  (newest_ == nullptr ? oldest_ : newest_->newer) = session;
  newest_ = session;
}

// Out of the order of who was asked for; a new one is not in it yet.
void SessionStore::unlink(UserSession* session) {
  if (session->newer != nullptr) session->newer->older = session->older;
  if (session->older != nullptr) session->older->newer = session->newer;
  if (session == newest_) newest_ = session->older;
  if (session == oldest_) oldest_ = session->newer;
  session->newer = session->older = nullptr;
}

void SessionStore::let_go(UserSession* session) {
  *place_of(session->key()) = session->chain;
  unlink(session);
  session->is_kept = false;
  n_session_bytes_ -= session->n_counted;
  --n_sessions_;
  release(session);
}

void SessionStore::settle(UserSession* session) {
  const std::size_t n_bytes_now = session->n_bytes();
  const auto lock = changing_.lock();
  if (!session->is_kept) return;
  const Uncut uncut;
  n_session_bytes_ += n_bytes_now - session->n_counted;
  session->n_counted = static_cast<std::uint32_t>(n_bytes_now);
  move_to_front(session);
  while (total() > max_bytes_ && oldest_ != newest_) let_go(oldest_);
}

}  // namespace shortlist::engine
