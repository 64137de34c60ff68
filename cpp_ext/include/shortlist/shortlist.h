/* The C ABI of libshortlist: exact top-N search over item embeddings, and whole bundles. C99; no
   C++ types, and no exception leaves the library. docs/c_abi.md tells how to build and link a host.
   One header, however long: a host copies one file.

   Errors. Every function that can fail returns a status, and writes why to the caller's
   shortlist_error, which may be NULL. The message names the argument, what came, what was expected,
   and the fix. Nothing changes when a call fails: a handle it would have made is NULL, an array it
   would have filled is unspecified.

   Threads. Any number of threads may use one index or view at once; only the free functions need
   the last user. Searches never wait for upsert or remove; writers wait for each other. The
   library starts its workers when a search first needs them, and they sleep between searches;
   shortlist_set_executor makes it use the host's threads instead. A forked child may go on using
   what its parent made. Nothing is printed, no signal is handled.

   Memory. Arrays belong to the caller, are read or written during the call only, are row-major
   without gaps, and must not overlap. The library copies what it keeps.

   Structs that start with struct_size must be zeroed but for the fields in use, with struct_size =
   sizeof of the struct: they may grow. The others keep their layout for ever. */
#ifndef SHORTLIST_H
#define SHORTLIST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows with every addition to this header. A library serves every host that was compiled with a
   header of the same or a smaller version, as long as its soname is the same. */
#define SHORTLIST_ABI_VERSION 5

#define SHORTLIST_API __attribute__((visibility("default")))

/* The SHORTLIST_ABI_VERSION of the library itself; a smaller one than the header's is too old. */
SHORTLIST_API int32_t shortlist_abi_version(void);
/* The release, for example "0.1.0". Valid for ever. */
SHORTLIST_API const char* shortlist_version(void);

typedef int32_t shortlist_status;
enum {
  SHORTLIST_OK = 0,
  SHORTLIST_INVALID_ARGUMENT = 1, /* the caller's: the message names the argument and the fix */
  SHORTLIST_FILE_ERROR = 2,       /* a file is missing, damaged, or cannot be written */
  SHORTLIST_OUT_OF_MEMORY = 3,
  SHORTLIST_INTERNAL_ERROR = 4, /* the library's: please report it */
  SHORTLIST_NO_RUNTIME = 5 /* ONNX Runtime, or a device, is missing or too old (engines only) */
};

typedef struct shortlist_error {
  shortlist_status status;
  char message[1020]; /* UTF-8, NUL-terminated; "" when the status is SHORTLIST_OK. Long = cut. */
} shortlist_error;

/* Bytes of UTF-8 without a terminating NUL. */
typedef struct shortlist_text {
  const char* data;
  size_t size;
} shortlist_text;

/* n items, named in one of three ways: the other two pointers are NULL. */
typedef struct shortlist_ids {
  size_t n;
  const int64_t* numbers;      /* the shop's ids, of an index that has numbers */
  const shortlist_text* texts; /* the shop's ids, of an index that has text */
  const int64_t* rows;         /* item rows; in filters only. Negative rows are ignored. */
} shortlist_ids;

enum { SHORTLIST_COSINE = 0, SHORTLIST_DOT = 1, SHORTLIST_EUCLIDEAN = 2 };
enum {
  SHORTLIST_FLOAT32 = 0,
  SHORTLIST_FLOAT16 = 1,
  SHORTLIST_BFLOAT16 = 2,
  SHORTLIST_INT8 = 3,  /* approximate answers */
  SHORTLIST_DISK8 = 4, /* float32 vectors; of a loaded file only 8-bit codes are in memory, */
  SHORTLIST_DISK4 = 5, /* or 4-bit codes */
  SHORTLIST_INT4 = 6, /* approximate answers; all but INT8 and INT4 are exact for what they store */
  SHORTLIST_DISK6 = 7 /* as DISK8, with 6-bit codes */
};

/* An index can change; a view is an index at one moment and never changes. */
typedef struct shortlist_index shortlist_index;
typedef struct shortlist_view shortlist_view;

/* --- Index ----------------------------------------------------------------------------------- */

typedef struct shortlist_index_options {
  size_t struct_size;
  int32_t metric;  /* SHORTLIST_COSINE, ... */
  int32_t storage; /* SHORTLIST_FLOAT32, ... */
} shortlist_index_options;

/* An index of n_items rows of dim numbers. item_ids: numbers or texts, unique, one a row; NULL =
   the row numbers. -1 and empty text mark missing places and are no ids; text is UTF-8 without NUL.
   options: NULL = cosine, float32. Free *index with shortlist_index_free. */
SHORTLIST_API shortlist_status shortlist_index_create(const float* vectors, size_t n_items,
                                                      size_t dim, const shortlist_ids* item_ids,
                                                      const shortlist_index_options* options,
                                                      shortlist_index** index,
                                                      shortlist_error* error);

/* Reads a file that shortlist_view_save, or Index.save of Python, wrote; verifies every byte.
   use_mmap != 0 keeps the file mapped: it must not be shortened meanwhile; replacing it by rename
   is safe. */
SHORTLIST_API shortlist_status shortlist_index_load(const char* path, int32_t use_mmap,
                                                    shortlist_index** index,
                                                    shortlist_error* error);

/* Replaces the vectors of known ids, which keep their rows, and gives the next rows to new ids: all
   at once. vectors: item_ids->n rows of dim numbers. */
SHORTLIST_API shortlist_status shortlist_index_upsert(shortlist_index* index,
                                                      const shortlist_ids* item_ids,
                                                      const float* vectors, size_t dim,
                                                      shortlist_error* error);

/* Removes the known ones among the ids, all at once; n_removed says how many and may be NULL. */
SHORTLIST_API shortlist_status shortlist_index_remove(shortlist_index* index,
                                                      const shortlist_ids* item_ids,
                                                      size_t* n_removed, shortlist_error* error);

/* The index as it is now, in a fraction of a microsecond. The view stays what it is when the index
   changes, and outlives it. Free *view with shortlist_view_free. */
SHORTLIST_API shortlist_status shortlist_index_view(const shortlist_index* index,
                                                    shortlist_view** view, shortlist_error* error);

SHORTLIST_API void shortlist_index_free(shortlist_index* index); /* NULL is ignored */
SHORTLIST_API void shortlist_view_free(shortlist_view* view);    /* NULL is ignored */

/* --- View ------------------------------------------------------------------------------------ */

typedef struct shortlist_info {
  size_t struct_size;
  size_t n_items;
  size_t n_rows; /* n_items and the empty rows of removed items */
  size_t dim;
  uint64_t version; /* grows with every update */
  double recall;    /* SHORTLIST_INT8, _INT4: share of the true top 10 that is found; else NaN */
  int32_t metric;
  int32_t storage;
  int32_t has_texts; /* 1: ids are texts, 0: numbers */
} shortlist_info;

SHORTLIST_API shortlist_status shortlist_view_info(const shortlist_view* view, shortlist_info* info,
                                                   shortlist_error* error);

/* The values of a column of items: a value for each row or, with splits, those from splits[r] to
   splits[r + 1] - 1 for row r; n_rows + 1 splits ascend from 0 to n. Negative ones are no value;
   others are numbered from 0 without large gaps. Since ABI version 5, as the struct below. */
typedef struct shortlist_groups {
  size_t n; /* values */
  const int32_t* values;
  const int64_t* splits; /* NULL = one a row */
} shortlist_groups;

/* A distribution over the values of a column, which lists come near to: query q wants values[i] in
   the share shares[i] for i = splits[q] .. splits[q + 1] - 1. Values of a query ascend, shares are
   above 0 and sum to 1; n_queries + 1 splits ascend from 0. */
typedef struct shortlist_calibration {
  size_t struct_size;
  shortlist_groups column;
  const double* strength; /* n_queries numbers from 0, any list will do, to 1 */
  const int64_t* splits;
  const int32_t* values;
  const double* shares;
  /* NULL, or n_queries flags, for engines: 1 = the shares are those of the request's history, and
     the query has none above. */
  const uint8_t* from_history;
} shortlist_calibration;

/* What every list has to look like as a whole; docs/variety.md says what that means. */
typedef struct shortlist_variety {
  size_t struct_size;
  size_t n_rows;                   /* of the view: columns and quotas have a value for each */
  const shortlist_groups* columns; /* n_columns */
  size_t n_columns;
  /* n_queries * n_columns: so many items with the same value at most; 0 = any number. */
  const int32_t* at_most;
  const uint8_t* const* quotas; /* n_quotas arrays with a byte a row: 0 = it does not count */
  size_t n_quotas;
  /* n_queries * n_quotas: so many items that count at least, top_n at most; 0 = any number. */
  const int32_t* at_least;
  /* n_queries numbers from 0 to 1, or NULL: the weight of being unlike the items chosen before.
     With it, as with calibration and dampening, an engine answers in one stage. */
  const double* diversity;
  const shortlist_calibration* calibration; /* or NULL; not for a query with a diversity above 0 */
  /* Or NULL, not for a query with a diversity above 0: n_rows and n_queries numbers of 0 or more.
     Scores are lower by terms[row] * dampening[q]; docs/variety.md: terms of ln(1 + events). */
  const double* terms;
  const double* dampening;
} shortlist_variety;

/* Which items a search may return; what is excluded is excluded even if it is allowed. At most one
   of allow and allow_mask. Unknown ids are ignored. */
typedef struct shortlist_filter {
  size_t struct_size;
  /* Never returned to query q: exclude[exclude_splits[q]] .. exclude[exclude_splits[q + 1] - 1].
     n_queries + 1 splits ascend from 0 to exclude->n. */
  const shortlist_ids* exclude;
  const int64_t* exclude_splits;
  /* Only these may come back. allow_splits: NULL = for all queries, else per query as above. */
  const shortlist_ids* allow;
  const int64_t* allow_splits;
  /* A byte a row, 0 = not allowed: mask_size = n_rows, for all queries, or n_queries * n_rows. */
  const uint8_t* allow_mask;
  size_t mask_size;
  /* Since ABI version 5. What is done with the items that are left; NULL = the best come first. */
  const shortlist_variety* variety;
} shortlist_filter;

/* Where a search writes. Each array has n_queries * top_n places, counts has n_queries; those that
   are NULL are left out. Best first: score descending, then the lower row. From counts[q] on places
   are missing: score -infinity, row -1, number -1, empty text. With diversity items are in the
   order in which they are chosen. */
typedef struct shortlist_hits {
  size_t struct_size;
  float* scores; /* bigger is closer, for every metric */
  int64_t* rows;
  int64_t* numbers;      /* the shop's ids, of an index that has numbers */
  shortlist_text* texts; /* the shop's ids, of an index that has text; valid while the view is */
  int64_t* counts;
  /* Since ABI version 5. n_queries * n_quotas: how many items each list lacks of a quota. */
  int64_t* missing;
} shortlist_hits;

/* The exact top_n of n_queries rows of dim numbers. filter: NULL = all items. n_threads: at most so
   many, and no more than shortlist_get_num_threads says; 0 = that many. Ids, order and score bits
   do not depend on batch size, threads or instruction set. */
SHORTLIST_API shortlist_status shortlist_view_search(const shortlist_view* view,
                                                     const float* queries, size_t n_queries,
                                                     size_t dim, size_t top_n,
                                                     const shortlist_filter* filter,
                                                     size_t n_threads, const shortlist_hits* hits,
                                                     shortlist_error* error);

/* The rows of ids->n numbers or texts; -1 where unknown. */
SHORTLIST_API shortlist_status shortlist_view_rows_of(const shortlist_view* view,
                                                      const shortlist_ids* ids, int64_t* rows,
                                                      shortlist_error* error);

/* The ids of n rows, to numbers or to texts (valid while the view is), whichever the index has; the
   other is NULL. -1 or empty text for negative rows and for those of removed items. */
SHORTLIST_API shortlist_status shortlist_view_ids_of(const shortlist_view* view,
                                                     const int64_t* rows, size_t n,
                                                     int64_t* numbers, shortlist_text* texts,
                                                     shortlist_error* error);

/* The stored vectors (for cosine: normalised) of n rows of known items: n * dim numbers. */
SHORTLIST_API shortlist_status shortlist_view_vectors(const shortlist_view* view,
                                                      const int64_t* rows, size_t n, float* vectors,
                                                      shortlist_error* error);

/* Writes a new file, syncs it and renames it to path; rows of removed items are left out. */
SHORTLIST_API shortlist_status shortlist_view_save(const shortlist_view* view, const char* path,
                                                   shortlist_error* error);

/* --- Engine ---------------------------------------------------------------------------------- */

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

/* --- Process --------------------------------------------------------------------------------- */

/* Threads that a search may use, its caller included: by default the CPUs this process may use
   (affinity and cgroup quota count). Set: 1 .. 256, or 0 for the default; safe while searches run.
   One setting for the whole process. */
SHORTLIST_API shortlist_status shortlist_get_num_threads(size_t* n_threads, shortlist_error* error);
SHORTLIST_API shortlist_status shortlist_set_num_threads(size_t n_threads, shortlist_error* error);

/* The host's threads in place of the library's. */
typedef struct shortlist_executor {
  size_t struct_size;
  void* context;
  /* Calls task(task_context, i) exactly once for every i < n_tasks, on any threads and in any
     order, and returns when all those calls have. May itself be called from many threads at once.
     Neither function throws. */
  void (*run)(void* context, size_t n_tasks, void (*task)(void* task_context, size_t i),
              void* task_context);
  size_t n_threads; /* what shortlist_get_num_threads says meanwhile, 1 .. 256 */
} shortlist_executor;

/* NULL brings the library's threads back. Searches under way finish where they are: keep an
   executor usable until they have. */
SHORTLIST_API shortlist_status shortlist_set_executor(const shortlist_executor* executor,
                                                      shortlist_error* error);

/* The instruction set in use, for example "avx2"; SHORTLIST_SIMD in the environment forces one.
 *level is valid for ever. */
SHORTLIST_API shortlist_status shortlist_get_simd_level(const char** level, shortlist_error* error);

#ifdef __cplusplus
}
#endif

#endif /* SHORTLIST_H */
