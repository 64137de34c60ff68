/* A C host of whole bundles: the best items after a history of item ids, by recommend.onnx. With an
   installed library (docs/c_abi.md) and a release of ONNX Runtime in $ORT:

     gcc -std=c99 -O2 examples/engine.c -o engine $(pkg-config --cflags --libs shortlist)
     ./engine movies.shortlist $ORT/lib/libonnxruntime.so 10  50 172 181 */
#include <inttypes.h>
#include <shortlist.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static shortlist_error error;

static void check(shortlist_status status) {
  if (status == SHORTLIST_OK) return;
  fprintf(stderr, "engine: %s\n", error.message);
  exit(1);
}

int main(int n_arguments, char** arguments) {
  if (n_arguments < 4) return 2;
  shortlist_engine* engine;
  shortlist_engine_options options = {.struct_size = sizeof options, .n_threads = 1};
  options.onnxruntime = arguments[2];
  check(shortlist_engine_open(arguments[1], &options, &engine, &error));
  shortlist_engine_info info = {.struct_size = sizeof info};
  check(shortlist_engine_report(engine, &info, &error));

  size_t n = (size_t)n_arguments - 4;
  int64_t* numbers = calloc(n + 1, sizeof *numbers);
  shortlist_text* texts = calloc(n + 1, sizeof *texts);
  if (!numbers || !texts) return 1;
  for (size_t i = 0; i < n; ++i) {
    const char* id = arguments[i + 4];
    numbers[i] = strtoll(id, NULL, 10);
    texts[i] = (shortlist_text){id, strlen(id)};
  }
  const int64_t splits[2] = {0, (int64_t)n};
  shortlist_column history = {.name = "history", .splits = splits};
  if (info.has_texts) history.texts = texts;
  if (!info.has_texts) history.numbers = numbers;
  shortlist_requests requests = {.struct_size = sizeof requests, .n_requests = 1};
  requests.top_n = strtoul(arguments[3], NULL, 10);
  requests.columns = &history;
  requests.n_columns = 1;
  shortlist_answer* answer;
  check(shortlist_engine_recommend(engine, &requests, &answer, &error));
  for (int64_t i = 0; i < answer->counts[0]; ++i) {
    if (info.has_texts) printf("%.*s", (int)answer->texts[i].size, answer->texts[i].data);
    if (!info.has_texts) printf("%" PRId64, answer->numbers[i]);
    printf(" %a\n", answer->scores[i]);
  }
  shortlist_answer_free(answer);
  shortlist_engine_close(engine);
  free(numbers), free(texts);
  return 0;
}
