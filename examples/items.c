/* A C host whose items come and go: adds an item by its features (here a year and one genre, as the
   demo's films have), recommends by one stage after a history of item ids, and removes it again.
   Ids are numbers here. Built and run as engine.c:

     gcc -std=c99 -O2 examples/items.c -o items $(pkg-config --cflags --libs shortlist)
     ./items movies.shortlist $ORT/lib/libonnxruntime.so 10  9001 1998 Drama  50 172 */
#include <inttypes.h>
#include <shortlist.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static shortlist_error error;

static void check(shortlist_status status) {
  if (status == SHORTLIST_OK) return;
  fprintf(stderr, "items: %s\n", error.message);
  exit(1);
}

int main(int n_arguments, char** arguments) {
  if (n_arguments < 8) return 2;
  shortlist_engine* engine;
  shortlist_engine_options options = {.struct_size = sizeof options, .n_threads = 1};
  options.onnxruntime = arguments[2];
  check(shortlist_engine_open(arguments[1], &options, &engine, &error));

  const int64_t id = strtoll(arguments[4], NULL, 10), one_tag[2] = {0, 1};
  const float year = strtof(arguments[5], NULL);
  const shortlist_text genre = {arguments[6], strlen(arguments[6])};
  const shortlist_column features[2] = {{.name = "year", .floats = &year},
                                        {.name = "genres", .texts = &genre, .splits = one_tag}};
  const shortlist_ids item = {.n = 1, .numbers = &id};
  check(shortlist_engine_upsert(engine, &item, features, 2, NULL, &error));

  const size_t n = (size_t)n_arguments - 7;
  int64_t* history = calloc(n, sizeof *history);
  if (!history) return 1;
  for (size_t i = 0; i < n; ++i) history[i] = strtoll(arguments[i + 7], NULL, 10);
  const shortlist_column column = {.name = "history", .numbers = history, .width = n};
  shortlist_requests requests = {.struct_size = sizeof requests, .n_requests = 1, .stages = 1};
  requests.top_n = strtoul(arguments[3], NULL, 10);
  requests.columns = &column;
  requests.n_columns = 1;
  shortlist_answer* answer;
  check(shortlist_engine_recommend(engine, &requests, &answer, &error));
  for (int64_t i = 0; i < answer->counts[0]; ++i) {
    printf("%" PRId64 " %a\n", answer->numbers[i], answer->scores[i]);
  }
  shortlist_answer_free(answer);
  free(history);
  check(shortlist_engine_remove(engine, &item, NULL, &error));
  shortlist_engine_close(engine);
  return 0;
}
