/* A C host: the exact top 10 of every query read from standard input (raw float32 rows), without
   the items named after the index. With an installed library (docs/c_abi.md):

     gcc -std=c99 -O2 examples/host.c -o host $(pkg-config --cflags --libs shortlist)
     ./host items.index sold-out-id another-id < queries.f32 */
#include <inttypes.h>
#include <shortlist.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static shortlist_error error;

static void check(shortlist_status status) {
  if (status == SHORTLIST_OK) return;
  fprintf(stderr, "host: %s\n", error.message);
  exit(1);
}

int main(int n_arguments, char** arguments) {
  enum { top_n = 10 };
  shortlist_index* index;
  shortlist_view* view;
  shortlist_info info = {.struct_size = sizeof info};
  check(shortlist_index_load(n_arguments > 1 ? arguments[1] : NULL, 1, &index, &error));
  check(shortlist_index_view(index, &view, &error));
  check(shortlist_view_info(view, &info, &error));

  size_t n = n_arguments > 2 ? (size_t)n_arguments - 2 : 0;
  int64_t* numbers = calloc(n + 1, sizeof *numbers);
  shortlist_text* texts = calloc(n + 1, sizeof *texts);
  float* query = calloc(info.dim, sizeof *query);
  if (!numbers || !texts || !query) return 1;
  for (size_t i = 0; i < n; ++i) {
    const char* id = arguments[i + 2];
    numbers[i] = strtoll(id, NULL, 10);
    texts[i] = (shortlist_text){id, strlen(id)};
  }
  shortlist_ids sold = {n, info.has_texts ? NULL : numbers, info.has_texts ? texts : NULL, NULL};
  const int64_t ends[2] = {0, (int64_t)n};
  shortlist_filter rules = {.struct_size = sizeof rules, .exclude = &sold, .exclude_splits = ends};
  float scores[top_n];
  int64_t ids[top_n], count;
  shortlist_text names[top_n];
  shortlist_hits hits = {.struct_size = sizeof hits, .scores = scores, .counts = &count};
  hits.texts = info.has_texts ? names : NULL;
  hits.numbers = info.has_texts ? NULL : ids;
  while (fread(query, sizeof *query, info.dim, stdin) == info.dim) {
    check(shortlist_view_search(view, query, 1, info.dim, top_n, &rules, 0, &hits, &error));
    for (int64_t i = 0; i < count; ++i) {
      if (info.has_texts) printf("%.*s", (int)names[i].size, names[i].data);
      if (!info.has_texts) printf("%" PRId64, ids[i]);
      printf(" %a\n", scores[i]);
    }
  }
  shortlist_view_free(view);
  shortlist_index_free(index);
  free(numbers), free(texts), free(query);
  return 0;
}
