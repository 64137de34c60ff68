/* The part of the C ABI that answers raw requests from a whole bundle. Include shortlist.h, which
   includes this file and says what holds for errors, threads, memory and structs. */
#ifndef SHORTLIST_ENGINE_H
#define SHORTLIST_ENGINE_H

#ifndef SHORTLIST_H
#error "include shortlist.h in place of shortlist/engine.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A bundle that answers raw requests, by its recommend.onnx: this is the engine that answers Python
   too, so both give the same bits; in place of where it takes a filter. It needs ONNX Runtime 1.17
   or newer, which is not linked but found when the first engine is opened. Any number of threads
   may call one engine; several engines may live in one process. */
typedef struct shortlist_engine shortlist_engine;

typedef struct shortlist_engine_options {
  size_t struct_size;
  /* Path of libonnxruntime.so. NULL: the one this process has loaded, else libonnxruntime.so.1 or
     libonnxruntime.so as the loader finds them. It stays loaded. */
  const char* onnxruntime;
  size_t n_threads; /* of one call; 0 = shortlist_get_num_threads, at most 256 */
  /* 1: compare sizes only, not every file's sha256 with the manifest. */
  int32_t skip_hashes;
  /* Since ABI version 4. Where the graph runs: "cpu", "cuda", "tensorrt", or "auto", which is CUDA
     if it runs and else the CPU. NULL = "cpu". A device that is asked for and does not run is
     SHORTLIST_NO_RUNTIME. */
  const char* device;
  /* Since ABI version 4. Calls with one request and no filter that come at the same time, from
     several threads, share runs of at most so many requests; 0 or 1 = every call goes alone. */
  size_t max_batch;
  /* Since ABI version 4. Microseconds such a request waits for others at most, and only while all
     cores are at work; 0 = 200, at most 1,000,000. */
  size_t max_wait_us;
} shortlist_engine_options;

/* Opens a bundle folder (not a zip): every file is checked first; links, other files, and an index
   that is not what the manifest says are refused (SHORTLIST_FILE_ERROR). options: NULL = one
   thread on the CPU, all checks. Free *engine with shortlist_engine_close. */
SHORTLIST_API shortlist_status shortlist_engine_open(const char* bundle,
                                                     const shortlist_engine_options* options,
                                                     shortlist_engine** engine,
                                                     shortlist_error* error);

/* One input of the bundle, for all requests: history, history_kinds, history_ages (seconds before
   now), a user feature (times in seconds since 1970), or user_id: a user of the bundle, whose
   stored features stand for those that the request does not give, and whose stored history for its
   own if it has none; items of both do not come back. Of numbers, floats and texts one is given,
   the others are NULL. Missing values are INT64_MIN, NaN and empty texts. */
typedef struct shortlist_column {
  const char* name;
  const int64_t* numbers;
  const float* floats;
  const shortlist_text* texts;
  /* Values of each request, 0 = 1. Histories: oldest first, missing ones on the left. */
  size_t width;
  /* Lists of any length instead, for histories and tags: request i owns the values splits[i] ..
     splits[i + 1] - 1; n_requests + 1 splits ascend from 0. NULL = width. */
  const int64_t* splits;
} shortlist_column;

typedef struct shortlist_requests {
  size_t struct_size;
  /* Any number: calls are cut into batches, where lists are long into smaller ones, as in Python.
   */
  size_t n_requests;
  size_t top_n;
  const shortlist_column* columns; /* columns that are not given are missing everywhere */
  size_t n_columns;
  int32_t include_seen; /* 1: items of the history may come back */
  /* Since ABI version 3. What each request may get, or NULL = every item; queries are requests.
     Rows and masks are those of shortlist_engine_view: after a swap others, and after an update
     more. */
  const shortlist_filter* filter;
  /* Since ABI version 4. 1: the nearest items. 2: those in the order of the second stage. 0: all
     that the bundle has; so without a second stage 2 is refused. */
  int32_t stages;
  /* Since ABI version 4. Items that the user of each request skipped, or NULL: they are excluded as
     those of the history are, and what is like them goes down. Request i skipped those from
     skipped_splits[i] to skipped_splits[i + 1] - 1; n_requests + 1 splits ascend from 0. */
  const shortlist_ids* skipped;
  const int64_t* skipped_splits;
} shortlist_requests;

enum {
  SHORTLIST_POPULAR = 0,
  SHORTLIST_FEATURES = 1,
  SHORTLIST_STORED_HISTORY = 2,
  SHORTLIST_HISTORY = 3
};

/* Made by the library, which may add fields at the end. Best first: score descending, then the
   lower row. From counts[i] on places are missing: score -infinity, row -1, number -1, empty text.
 */
typedef struct shortlist_answer {
  size_t n_requests;
  size_t top_n;
  uint64_t version;            /* of the engine that answered: 1, and one more with every swap */
  const float* scores;         /* n_requests * top_n, as the three below */
  const int64_t* rows;         /* of items */
  const int64_t* numbers;      /* the shop's ids, of a bundle that has numbers, else NULL */
  const shortlist_text* texts; /* the shop's ids, of a bundle that has text, else NULL */
  const int64_t* counts;       /* n_requests, as the one below */
  const int64_t* sources;      /* SHORTLIST_HISTORY, ...: what each answer was made from */
  const int8_t* stages;        /* n_requests: how many made each answer; 0 = popular items */
  /* Since ABI version 5. n_requests * n_quotas: how many items each list lacks of a quota. */
  const int64_t* missing;
} shortlist_answer;

/* Answers raw requests. *answer belongs to the caller, outlives swaps and the engine, and is freed
   with shortlist_answer_free. */
SHORTLIST_API shortlist_status shortlist_engine_recommend(const shortlist_engine* engine,
                                                          const shortlist_requests* requests,
                                                          shortlist_answer** answer,
                                                          shortlist_error* error);
SHORTLIST_API void shortlist_answer_free(shortlist_answer* answer); /* NULL is ignored */

typedef struct shortlist_explain_options {
  size_t struct_size;
  size_t n_reasons; /* of each item, 1 .. 100 */
  /* 1: for every reason after an item's first, everything is tried again; 0: the 4 pieces of the
     largest drops alone, in a fraction of the time. */
  int32_t thorough;
  /* Items that are left out together and are one reason: a number for each of the n_groups items of
     the bundle as it was opened, in the order of its rows; negative = alone. NULL = all alone. */
  const int64_t* groups;
  size_t n_groups;
} shortlist_explain_options;

/* Made by the library, which may add fields at the end. Each array has n_requests * top_n *
   n_reasons places, the reasons of one item beside one another, the strongest first. A place
   without a reason has the number -1 or the empty text, and NULL in features. */
typedef struct shortlist_explanation {
  const shortlist_answer* answer; /* freed with the explanation */
  size_t n_reasons;
  const int64_t* numbers;      /* items of histories, of a bundle that has numbers, else NULL */
  const shortlist_text* texts; /* items of histories, of a bundle that has text, else NULL */
  const char* const* features; /* NULL, or the name of a feature, in place of an item */
  const float* drops;
  const uint8_t* leaves_list;
} shortlist_explanation;

/* Answers raw requests and says why each item is there: what of a request, left out, makes the
   item's margin fall most; the margin is its score minus the top_n-th best score of the others.
   Left out means that a history closes its gap, or that a feature is missing; all else stays, and
   what is seen stays excluded. Each next reason is found without those before it, drops says by how
   much the margin falls then, and leaves_list is 1 where a search without all of them does not find
   the item. Answers of popular items have no reasons. options: NULL = 3 reasons. Free *explanation
   with shortlist_explanation_free. Since ABI version 5. */
SHORTLIST_API shortlist_status shortlist_engine_explain(const shortlist_engine* engine,
                                                        const shortlist_requests* requests,
                                                        const shortlist_explain_options* options,
                                                        shortlist_explanation** explanation,
                                                        shortlist_error* error);
SHORTLIST_API void shortlist_explanation_free(
    shortlist_explanation* explanation); /* NULL is ignored */

/* The user embedding of each request: n_requests * dim numbers. Of requests only n_requests and the
   columns count; the other fields must be valid all the same. Since ABI version 4, as the five
   functions below. */
SHORTLIST_API shortlist_status shortlist_engine_encode_users(const shortlist_engine* engine,
                                                             const shortlist_requests* requests,
                                                             float* embeddings,
                                                             shortlist_error* error);

/* Scores of given items: requests->top_n for each request, item_ids->n = n_requests * top_n, row by
   row, -1 or empty text where there is none; as many scores, -infinity for unknown items. All of
   the request's stages judge them, of requests without a history too, as if nothing were seen and
   no filter given; what was skipped counts. */
SHORTLIST_API shortlist_status shortlist_engine_score(const shortlist_engine* engine,
                                                      const shortlist_requests* requests,
                                                      const shortlist_ids* item_ids, float* scores,
                                                      shortlist_error* error);

/* Embeddings of n_items items from their features, as the item encoder takes them: n_items * dim
   numbers. Columns as of requests, item_id among them; what is not given is missing. */
SHORTLIST_API shortlist_status shortlist_engine_encode_items(const shortlist_engine* engine,
                                                             const shortlist_column* columns,
                                                             size_t n_columns, size_t n_items,
                                                             float* embeddings,
                                                             shortlist_error* error);

/* Adds items, or changes known ones, in memory: from their features, or with vectors of the host's
   (item_ids->n * dim numbers; then n_columns is 0). A feature that is not given is missing, of a
   known item too. New items may come back at once, last where nothing is known of a request; in a
   history they are excluded, but the encoder learns nothing from them. Calls under way finish on
   the items they began with; a swap brings the other bundle's items. */
SHORTLIST_API shortlist_status shortlist_engine_upsert(shortlist_engine* engine,
                                                       const shortlist_ids* item_ids,
                                                       const shortlist_column* columns,
                                                       size_t n_columns, const float* vectors,
                                                       shortlist_error* error);

/* Removes the known ones among the ids; n_removed says how many and may be NULL. In histories they
   still count. */
SHORTLIST_API shortlist_status shortlist_engine_remove(shortlist_engine* engine,
                                                       const shortlist_ids* item_ids,
                                                       size_t* n_removed, shortlist_error* error);

/* The items as they are now: their rows, ids and vectors. Free *view with shortlist_view_free. */
SHORTLIST_API shortlist_status shortlist_engine_view(const shortlist_engine* engine,
                                                     shortlist_view** view, shortlist_error* error);

/* Opens, checks and warms another bundle while the present one goes on answering, then puts it in
   its place: calls that begin get the new one, those under way finish on the old one, whose memory
   goes with the last of them. With n_threads = 1 the work is done on a thread of low priority that
   ends with the call. Its ids must be of the same kind. After an error nothing has changed. */
SHORTLIST_API shortlist_status shortlist_engine_swap(shortlist_engine* engine, const char* bundle,
                                                     shortlist_error* error);

typedef struct shortlist_engine_info {
  size_t struct_size;
  uint64_t version; /* 1, and one more with every swap */
  size_t n_items;
  size_t dim;
  size_t n_threads;
  int32_t metric;
  int32_t has_texts;    /* 1: item ids are texts, 0: numbers */
  char onnxruntime[32]; /* its release, for example "1.22.0" */
  char provider[32];    /* what runs the graph: "CPUExecutionProvider" */
  char bundle[1024];    /* absolute path; long = cut */
  /* Since ABI version 4. Of the bundle that runs now, with max_batch: how many single requests have
     run, in how many runs. */
  uint64_t n_batched_requests;
  uint64_t n_batches;
} shortlist_engine_info;

/* What runs. n_items, dim and metric are the manifest's; those of items.index are the same. */
SHORTLIST_API shortlist_status shortlist_engine_report(const shortlist_engine* engine,
                                                       shortlist_engine_info* info,
                                                       shortlist_error* error);

/* After the last call has returned; NULL is ignored. */
SHORTLIST_API void shortlist_engine_close(shortlist_engine* engine);

#ifdef __cplusplus
}
#endif

#endif /* SHORTLIST_ENGINE_H */
