/* A C host that knows its users by name only: the best items for a user of the bundle, by the
   stored history, but for items that are sold out. Ids are numbers here. Built and run as engine.c:

     gcc -std=c99 -O2 examples/users.c -o users $(pkg-config --cflags --libs shortlist)
     ./users movies.shortlist $ORT/lib/libonnxruntime.so 10 196  50 172 */
#include <inttypes.h>
#include <shortlist.h>
#include <stdio.h>
#include <stdlib.h>

static shortlist_error error;

static void check(shortlist_status status) {
  if (status == SHORTLIST_OK) return;
  fprintf(stderr, "users: %s\n", error.message);
  exit(1);
}

int main(int n_arguments, char** arguments) {
  if (n_arguments < 5) return 2;
  shortlist_engine* engine;
  shortlist_engine_options options = {.struct_size = sizeof options, .n_threads = 1};
  options.onnxruntime = arguments[2];
  check(shortlist_engine_open(arguments[1], &options, &engine, &error));

  const int64_t user = strtoll(arguments[4], NULL, 10);
  const shortlist_column users = {.name = "user_id", .numbers = &user};
  const size_t n = (size_t)n_arguments - 5;
  int64_t* sold_out = calloc(n + 1, sizeof *sold_out);
  if (!sold_out) return 1;
  for (size_t i = 0; i < n; ++i) sold_out[i] = strtoll(arguments[i + 5], NULL, 10);
  const shortlist_ids excluded = {.n = n, .numbers = sold_out};
  const int64_t splits[2] = {0, (int64_t)n};
  shortlist_filter filter = {.struct_size = sizeof filter, .exclude = &excluded};
  filter.exclude_splits = splits;

  shortlist_requests requests = {.struct_size = sizeof requests, .n_requests = 1};
  requests.top_n = strtoul(arguments[3], NULL, 10);
  requests.columns = &users;
  requests.n_columns = 1;
  requests.filter = &filter;
  shortlist_answer* answer;
  check(shortlist_engine_recommend(engine, &requests, &answer, &error));
  for (int64_t i = 0; i < answer->counts[0]; ++i) {
    printf("%" PRId64 " %a\n", answer->numbers[i], answer->scores[i]);
  }
  shortlist_answer_free(answer);
  shortlist_engine_close(engine);
  free(sold_out);
  return 0;
}
