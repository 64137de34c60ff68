/* What swaps.py measures the C engine with: threads that call one engine while it swaps bundles.

     swaps BUNDLE_A BUNDLE_B LIBONNXRUNTIME HISTORIES LENGTH N_CALLERS INTERVAL_US N_ROUNDS N_SWAPS

   HISTORIES is a file of int64 item ids, LENGTH a request. Each round is N_SWAPS swaps and then as
   much time without. A caller begins a request every INTERVAL_US, 0 = as soon as it has its answer;
   a request's time counts from when it was due. Prints the times in seconds, a line for each kind
   of request ("steady", "swaps"), then resident bytes before and after, and seconds of a swap. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"

enum { kRequests = 256, kMostCallers = 64, kMostTimes = 1 << 20 };
enum { kSteady, kSwaps, kOver };

typedef struct {
  int64_t rows[kTopN];
  float scores[kTopN];
} Expected;

typedef struct {
  float* times[2];
  size_t n[2];
} Caller;

static Expected expected[2][kRequests];
static double interval;
static atomic_int phase;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void wait_until(double due) {
  struct timespec until = {(time_t)due, (long)(1e9 * (due - (double)(time_t)due))};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static int is_of(const shortlist_answer* answer, const Expected* one) {
  return memcmp(answer->rows, one->rows, sizeof one->rows) == 0 &&
         memcmp(answer->scores, one->scores, sizeof one->scores) == 0;
}

static void keep(Caller* caller, int during, double seconds) {
  if (caller->n[during] < kMostTimes) caller->times[during][caller->n[during]++] = (float)seconds;
}

static void* call(void* argument) {
  Caller* caller = argument;
  size_t i = 0;
  double due = now();
  int during;
  while ((during = phase) != kOver) {
    shortlist_answer* answer = recommend(i);
    keep(caller, during, now() - due);
    if (!is_of(answer, &expected[0][i]) && !is_of(answer, &expected[1][i])) {
      fprintf(stderr, "swaps: request %zu is answered by neither bundle\n", i);
      exit(1);
    }
    shortlist_answer_free(answer);
    i = (i + 1) % kRequests;
    due += interval;
    if (interval == 0 || due < now() - 1) due = now();
    if (interval > 0) wait_until(due);
  }
  return NULL;
}

static void swap(const char* bundle) {
  shortlist_error error;
  check(shortlist_engine_swap(engine, bundle, &error), &error);
}

static void expect(Expected* those) {
  for (size_t i = 0; i < kRequests; ++i) {
    shortlist_answer* answer = recommend(i);
    memcpy(those[i].rows, answer->rows, sizeof those[i].rows);
    memcpy(those[i].scores, answer->scores, sizeof those[i].scores);
    shortlist_answer_free(answer);
  }
}

static size_t resident(void) {
  size_t all = 0, pages = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%zu %zu", &all, &pages) != 2) return 0;
  fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

int main(int n_arguments, char** arguments) {
  if (n_arguments != 10) return 2;
  const char* bundles[2] = {arguments[1], arguments[2]};
  shortlist_error error;
  shortlist_engine_options options = {.struct_size = sizeof options, .n_threads = 1};
  options.onnxruntime = arguments[3];
  length = strtoul(arguments[5], NULL, 10);
  const int n_callers = atoi(arguments[6]);
  interval = 1e-6 * atof(arguments[7]);
  const int n_rounds = atoi(arguments[8]), n_swaps = atoi(arguments[9]);
  if (length == 0 || n_callers < 1 || n_callers > kMostCallers) return 2;
  histories = malloc(kRequests * length * sizeof *histories);
  FILE* file = fopen(arguments[4], "rb");
  if (file == NULL || fread(histories, length * sizeof *histories, kRequests, file) != kRequests)
    return 2;
  check(shortlist_engine_open(bundles[0], &options, &engine, &error), &error);
  expect(expected[0]);
  swap(bundles[1]);
  expect(expected[1]);

  Caller callers[kMostCallers];
  pthread_t threads[kMostCallers];
  for (int i = 0; i < n_callers; ++i) {
    for (int during = 0; during < 2; ++during) {
      callers[i].n[during] = 0;
      callers[i].times[during] = malloc(kMostTimes * sizeof(float));
      memset(callers[i].times[during], 1, kMostTimes * sizeof(float));  // resident from the start
    }
    pthread_create(&threads[i], NULL, call, &callers[i]);
  }
  for (int i = 0; i < 10; ++i) swap(bundles[i % 2]);
  size_t before = 0;
  double seconds = 0;
  for (int round = 0; round < n_rounds; ++round) {
    const double began = now();
    phase = kSwaps;
    for (int i = 0; i < n_swaps; ++i) swap(bundles[i % 2]);
    phase = kSteady;
    const double took = now() - began;
    seconds += took;
    wait_until(now() + took);
    if (round == 0) before = resident();
  }
  const size_t after = resident();
  phase = kOver;
  for (int i = 0; i < n_callers; ++i) pthread_join(threads[i], NULL);
  for (int during = 0; during < 2; ++during) {
    printf(during == kSteady ? "steady" : "swaps");
    for (int i = 0; i < n_callers; ++i)
      for (size_t k = 0; k < callers[i].n[during]; ++k)
        printf(" %.3e", callers[i].times[during][k]);
    printf("\n");
  }
  printf("resident %zu %zu\nswap %.6f\n", before, after, seconds / (n_rounds * n_swaps));
  shortlist_engine_close(engine);
  return 0;
}
