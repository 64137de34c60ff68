// shortlist_session_*: what users do, event after event.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "c_api/engine_handle.hpp"
#include "c_api/guard.hpp"
#include "c_api/owned_answer.hpp"
#include "engine/session_store.hpp"

using shortlist::engine::Call;
using shortlist::engine::Event;
using shortlist::engine::LoadedBundle;
using shortlist::engine::SessionHandle;
using shortlist::engine::SessionStore;

struct shortlist_session {
  std::shared_ptr<const shortlist::c_api::Running> running;
  SessionHandle handle;
};

struct shortlist_session_store {
  std::shared_ptr<const shortlist::c_api::Running> running;
  std::shared_ptr<SessionStore> store;
};

namespace shortlist::c_api {
namespace {

constexpr const char* kSessionHandle = "a session of shortlist_session_open";
constexpr const char* kStoreHandle = "a store of shortlist_session_store_open";
constexpr const char* kTextAddress = "the address of a shortlist_text";

std::shared_ptr<LoadedBundle> bundle_of(const Running& running, const char* what) {
  std::shared_ptr<LoadedBundle> bundle = running.current();
  if (bundle == nullptr) {
    throw std::invalid_argument(std::string(what) +
                                ": its engine is closed; expected one that is open: begin anew "
                                "with another engine");
  }
  return bundle;
}

std::string_view checked_text(const shortlist_text& text, const char* name) {
  if (text.size == 0) return {};
  check_pointer(text.data, name, "the address of its bytes");
  return {text.data, text.size};
}

// What a session begins with; the caller keeps the columns.
Call request_of(const shortlist_requests* request) {
  Call call;
  call.n_requests = 1;
  if (request == nullptr) return call;
  const shortlist_requests known = known_requests(request);
  if (known.n_columns > 0) check_pointer(known.columns, "columns", "n_columns columns");
  call.n_requests = known.n_requests;
  call.columns = known.columns;
  call.n_columns = known.n_columns;
  return call;
}

std::vector<Event> events_of(const LoadedBundle& bundle, const shortlist_ids& ids) {
  if (ids.rows != nullptr) {
    throw std::invalid_argument("item_ids: got rows; expected numbers or texts");
  }
  check_kind(bundle.exported()->view(), ids, "item_ids");
  std::vector<Event> events(ids.n);
  for (std::size_t i = 0; i < ids.n; ++i) {
    if (ids.texts != nullptr) {
      events[i].item.text = checked_text(ids.texts[i], "item_ids");
    } else {
      events[i].item.number = ids.numbers[i];
    }
  }
  return events;
}

OwnedAnswer* recommend(const shortlist_session& session, const shortlist_requests& requests,
                       std::int64_t now) {
  const std::shared_ptr<LoadedBundle> bundle = bundle_of(*session.running, "session");
  if (requests.n_requests != 1 || requests.n_columns > 0 || requests.skipped != nullptr) {
    throw std::invalid_argument(
        "requests: got " + std::to_string(requests.n_requests) + " requests, " +
        std::to_string(requests.n_columns) + " columns and " +
        (requests.skipped == nullptr ? "no" : "some") +
        " skipped items; expected one request without columns and skipped items: the session knows "
        "what its user did");
  }
  auto answer = std::make_unique<OwnedAnswer>(*bundle);
  const CheckedRequests checked(*bundle, answer->catalogue->view(), requests);
  session.handle.recommend(*bundle, *answer->catalogue, checked.call(), now,
                           answer->room_for(checked.call()));
  answer->name_items();
  return answer.release();
}

shortlist_session_info info_of(const shortlist_session& session) {
  const engine::SessionReport report =
      session.handle.report(*bundle_of(*session.running, "session"));
  shortlist_session_info info{};
  info.has_state = report.has_state;
  std::strncpy(info.why, report.why, sizeof info.why - 1);
  info.n_items = report.n_items;
  info.n_steps = report.n_steps;
  info.n_restarts = report.n_restarts;
  info.n_bytes = report.n_bytes;
  return info;
}

// Fills what a host's header knows of a struct.
template <class Info>
void write_info(Info whole, Info* info) {
  const std::size_t struct_size = info->struct_size;
  check_struct(info, struct_size, sizeof *info, "info");
  whole.struct_size = struct_size;
  std::memcpy(info, &whole, std::min(struct_size, sizeof whole));
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist::c_api;

shortlist_status shortlist_session_open(const shortlist_engine* engine,
                                        const shortlist_requests* request,
                                        shortlist_session** session, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(session, "session", "the address of a shortlist_session pointer");
    *session = nullptr;
    check_pointer(engine, "engine", kEngineHandle);
    const std::shared_ptr<LoadedBundle> bundle = engine->current();
    // A store of its own, which nothing fills.
    const auto store = std::make_shared<SessionStore>(static_cast<std::size_t>(-1));
    *session = new shortlist_session{engine->running, store->get({}, *bundle, request_of(request))};
  });
}

shortlist_status shortlist_session_append(shortlist_session* session, const shortlist_ids* item_ids,
                                          const shortlist_text* kind, std::int64_t timestamp,
                                          shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(session, "session", kSessionHandle);
    check_pointer(item_ids, "item_ids", "the address of a shortlist_ids");
    const std::shared_ptr<LoadedBundle> bundle = bundle_of(*session->running, "session");
    std::vector<Event> events = events_of(*bundle, *item_ids);
    for (Event& event : events) {
      if (kind != nullptr) event.kind = checked_text(*kind, "kind");
      event.time = timestamp;
    }
    session->handle.append(*bundle, events);
  });
}

shortlist_status shortlist_session_forget(shortlist_session* session, const shortlist_ids* item_ids,
                                          shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(session, "session", kSessionHandle);
    check_pointer(item_ids, "item_ids", "the address of a shortlist_ids");
    const std::shared_ptr<LoadedBundle> bundle = bundle_of(*session->running, "session");
    session->handle.forget(events_of(*bundle, *item_ids));
  });
}

shortlist_status shortlist_session_recommend(shortlist_session* session,
                                             const shortlist_requests* requests, std::int64_t now,
                                             shortlist_answer** answer, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(answer, "answer", "the address of a shortlist_answer pointer");
    *answer = nullptr;
    check_pointer(session, "session", kSessionHandle);
    check_pointer(requests, "requests", "the address of a shortlist_requests");
    *answer = recommend(*session, known_requests(requests), now);
  });
}

shortlist_status shortlist_session_report(const shortlist_session* session,
                                          shortlist_session_info* info, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(session, "session", kSessionHandle);
    check_pointer(info, "info", "the address of a shortlist_session_info");
    write_info(info_of(*session), info);
  });
}

void shortlist_session_close(shortlist_session* session) {
  delete session;
}

shortlist_status shortlist_session_store_open(const shortlist_engine* engine, std::size_t max_bytes,
                                              shortlist_session_store** store,
                                              shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(store, "store", "the address of a shortlist_session_store pointer");
    *store = nullptr;
    check_pointer(engine, "engine", kEngineHandle);
    *store =
        new shortlist_session_store{engine->running, std::make_shared<SessionStore>(max_bytes)};
  });
}

shortlist_status shortlist_session_store_get(shortlist_session_store* store,
                                             const shortlist_text* key,
                                             const shortlist_requests* request,
                                             shortlist_session** session, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(session, "session", "the address of a shortlist_session pointer");
    *session = nullptr;
    check_pointer(store, "store", kStoreHandle);
    check_pointer(key, "key", kTextAddress);
    const std::shared_ptr<LoadedBundle> bundle = bundle_of(*store->running, "store");
    *session = new shortlist_session{
        store->running, store->store->get(checked_text(*key, "key"), *bundle, request_of(request))};
  });
}

shortlist_status shortlist_session_store_drop(shortlist_session_store* store,
                                              const shortlist_text* key, std::int32_t* was_there,
                                              shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(store, "store", kStoreHandle);
    check_pointer(key, "key", kTextAddress);
    const bool is_dropped = store->store->drop(checked_text(*key, "key"));
    if (was_there != nullptr) *was_there = is_dropped;
  });
}

shortlist_status shortlist_session_store_report(const shortlist_session_store* store,
                                                shortlist_session_store_info* info,
                                                shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(store, "store", kStoreHandle);
    check_pointer(info, "info", "the address of a shortlist_session_store_info");
    const SessionStore& kept = *store->store;
    write_info({0, kept.size(), kept.n_bytes(), kept.max_bytes()}, info);
  });
}

void shortlist_session_store_close(shortlist_session_store* store) {
  delete store;
}
