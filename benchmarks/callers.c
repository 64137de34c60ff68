/* What callers.py measures the C engine with: threads that call one engine as fast as they can.

     callers BUNDLE LIBONNXRUNTIME HISTORIES LENGTH

   HISTORIES is a file of int64 item ids, LENGTH a request. Prints the item rows of the first
   requests, a line each; then for each line "n_callers seconds" of standard input, requests a
   second and requests a second of CPU time. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "calls.h"

enum { kChecked = 32, kMostCallers = 64 };

static size_t n_requests;
static atomic_int is_over;

static void* call(void* count) {
  size_t n = 0;
  while (!is_over) shortlist_answer_free(recommend(n++ % n_requests));
  *(size_t*)count = n;
  return NULL;
}

static double seconds_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void measure(int n_callers, double seconds) {
  pthread_t threads[kMostCallers];
  size_t counts[kMostCallers], n = 0;
  is_over = 0;
  const double wall = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  for (int i = 0; i < n_callers; ++i) pthread_create(&threads[i], NULL, call, &counts[i]);
  const struct timespec pause = {(time_t)seconds,
                                 (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&pause, NULL);
  is_over = 1;
  for (int i = 0; i < n_callers; ++i) {
    pthread_join(threads[i], NULL);
    n += counts[i];
  }
  printf("%.1f %.1f\n", (double)n / (seconds_of(CLOCK_MONOTONIC) - wall),
         (double)n / (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu));
  fflush(stdout);
}

int main(int n_arguments, char** arguments) {
  if (n_arguments != 5) return 2;
  shortlist_error error;
  shortlist_engine_options options = {.struct_size = sizeof options, .n_threads = 1};
  options.onnxruntime = arguments[2];
  check(shortlist_engine_open(arguments[1], &options, &engine, &error), &error);
  FILE* file = fopen(arguments[3], "rb");
  length = strtoul(arguments[4], NULL, 10);
  if (file == NULL || length == 0 || fseek(file, 0, SEEK_END) != 0) return 2;
  n_requests = (size_t)ftell(file) / (length * sizeof *histories);
  rewind(file);
  histories = malloc(n_requests * length * sizeof *histories);
  if (fread(histories, length * sizeof *histories, n_requests, file) != n_requests) return 2;
  for (size_t i = 0; i < kChecked; ++i) {
    shortlist_answer* answer = recommend(i);
    for (int k = 0; k < kTopN; ++k)
      printf("%" PRId64 "%c", answer->rows[k], k + 1 < kTopN ? ' ' : '\n');
    shortlist_answer_free(answer);
  }
  fflush(stdout);
  int n_callers;
  double seconds;
  while (scanf("%d %lf", &n_callers, &seconds) == 2 && n_callers <= kMostCallers) {
    measure(n_callers, seconds);
  }
  shortlist_engine_close(engine);
  free(histories);
  return 0;
}
