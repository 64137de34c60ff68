/* One engine of the C ABI and requests of one history each, as callers.c and swaps.c make them. */
#pragma once

#include <inttypes.h>
#include <shortlist.h>
#include <stdio.h>
#include <stdlib.h>

enum { kTopN = 10 };

static shortlist_engine* engine;
static int64_t* histories; /* item ids, `length` a request */
static size_t length;

static void check(shortlist_status status, const shortlist_error* error) {
  if (status == SHORTLIST_OK) return;
  fprintf(stderr, "%s\n", error->message);
  exit(1);
}

static shortlist_answer* recommend(size_t i) {
  shortlist_error error;
  shortlist_answer* answer;
  shortlist_column column = {.name = "history", .numbers = histories + i * length, .width = length};
  shortlist_requests requests = {.struct_size = sizeof requests, .n_requests = 1, .top_n = kTopN};
  requests.columns = &column;
  requests.n_columns = 1;
  check(shortlist_engine_recommend(engine, &requests, &answer, &error), &error);
  return answer;
}
