/* The C ABI of libshortlist: exact top-N search over item embeddings, and whole bundles. C99; no
   C++ types, and no exception leaves the library. docs/c_abi.md tells how to build and link a host.
   Engines, which answer from a whole bundle, are in shortlist/engine.h, and sessions of theirs in
   shortlist/sessions.h; this file includes both.

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

/* Grows with every addition to the headers. A library serves every host that was compiled with
   a header of the same or a smaller version, as long as its soname is the same. */
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
     With it, as with calibration and dampening, an engine with a second stage chooses among its
     candidates in that order; their scores are similarities. */
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

#include "shortlist/engine.h"
#include "shortlist/sessions.h"

#endif /* SHORTLIST_H */
