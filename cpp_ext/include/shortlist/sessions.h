/* The part of the C ABI that follows users event after event. Include shortlist.h, which includes
   this file and says what holds for errors, threads, memory and structs. docs/sessions.md tells
   what a session is. All of it since ABI version 5. */
#ifndef SHORTLIST_SESSIONS_H
#define SHORTLIST_SESSIONS_H

#ifndef SHORTLIST_H
#error "include shortlist.h in place of shortlist/sessions.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What one user does, event after event, and lists that know of it at once. Its functions may be
   called from many threads, which take turns, and go on after a swap of the engine. After
   shortlist_engine_close they return SHORTLIST_INVALID_ARGUMENT. */
typedef struct shortlist_session shortlist_session;

/* Sessions by key, as many as fit. */
typedef struct shortlist_session_store shortlist_session_store;

/* A session that begins with a request: n_requests is 1, and of the others only the columns count.
   A known user_id begins with the stored history, if the request has none that the bundle knows;
   history_ages are refused. NULL = nothing is known. Free *session with shortlist_session_close. */
SHORTLIST_API shortlist_status shortlist_session_open(const shortlist_engine* engine,
                                                      const shortlist_requests* request,
                                                      shortlist_session** session,
                                                      shortlist_error* error);

/* Goes on with items, numbers or texts as the bundle has them, in their order. kind: of all these
   events, NULL or empty = none. One that means dislike to the bundle forgets the items; one that
   the encoder does not know counts as none. timestamp: seconds since 1970, always or never;
   INT64_MIN = not known. */
SHORTLIST_API shortlist_status shortlist_session_append(shortlist_session* session,
                                                        const shortlist_ids* item_ids,
                                                        const shortlist_text* kind,
                                                        int64_t timestamp, shortlist_error* error);

/* Takes items out of the history; they stay excluded as seen. */
SHORTLIST_API shortlist_status shortlist_session_forget(shortlist_session* session,
                                                        const shortlist_ids* item_ids,
                                                        shortlist_error* error);

/* The list after all that was appended. `requests` says what is wanted, as for
   shortlist_engine_recommend, of one request without columns and without skipped items. now: what
   ages of events count from, INT64_MIN = the newest event. Free *answer with shortlist_answer_free.
 */
SHORTLIST_API shortlist_status shortlist_session_recommend(shortlist_session* session,
                                                           const shortlist_requests* requests,
                                                           int64_t now, shortlist_answer** answer,
                                                           shortlist_error* error);

typedef struct shortlist_session_info {
  size_t struct_size;
  int32_t has_state; /* 1: an event is one step of the encoder; 0: the history is encoded again */
  char why[76];
  size_t n_items; /* of the history */
  size_t n_steps;
  size_t n_restarts; /* how often the state was made anew */
  size_t n_bytes;
} shortlist_session_info;

SHORTLIST_API shortlist_status shortlist_session_report(const shortlist_session* session,
                                                        shortlist_session_info* info,
                                                        shortlist_error* error);

/* Lets go of the handle; a session of a store stays there. NULL is ignored. */
SHORTLIST_API void shortlist_session_close(shortlist_session* session);

/* A store. Where its sessions take more than max_bytes (4096 or more), those go that were not asked
   for longest; the last one asked for stays. Free *store with shortlist_session_store_close. */
SHORTLIST_API shortlist_status shortlist_session_store_open(const shortlist_engine* engine,
                                                            size_t max_bytes,
                                                            shortlist_session_store** store,
                                                            shortlist_error* error);

/* The session of a key, at most 65535 bytes; a new one begins with the request, as
   shortlist_session_open says. Free *session with shortlist_session_close; until then it may be
   used, also when the store has let it go. */
SHORTLIST_API shortlist_status shortlist_session_store_get(shortlist_session_store* store,
                                                           const shortlist_text* key,
                                                           const shortlist_requests* request,
                                                           shortlist_session** session,
                                                           shortlist_error* error);

/* Forgets a session, such as that of a user who is erased; was_there says whether there was one and
   may be NULL. */
SHORTLIST_API shortlist_status shortlist_session_store_drop(shortlist_session_store* store,
                                                            const shortlist_text* key,
                                                            int32_t* was_there,
                                                            shortlist_error* error);

typedef struct shortlist_session_store_info {
  size_t struct_size;
  size_t n_sessions;
  size_t n_bytes; /* that the allocator keeps for them */
  size_t max_bytes;
} shortlist_session_store_info;

SHORTLIST_API shortlist_status shortlist_session_store_report(const shortlist_session_store* store,
                                                              shortlist_session_store_info* info,
                                                              shortlist_error* error);

/* Sessions that a host holds stay. NULL is ignored. */
SHORTLIST_API void shortlist_session_store_close(shortlist_session_store* store);

#ifdef __cplusplus
}
#endif

#endif /* SHORTLIST_SESSIONS_H */
