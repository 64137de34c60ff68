// The table of one instruction set. A kernel file includes this after its functions, which have the
// same names in each of them: here every member of Table gets its own.
#pragma once

#include "src/kernels/exact_tile.hpp"
#include "src/kernels/kernels.hpp"
#include "src/kernels/thresholds.hpp"
#include "src/kernels/widen.hpp"

namespace shortlist::kernels {

static constexpr Table filled_table(const char* name, int32_t query_max, size_t query_tile) {
  Table table{};
  table.name = name;
  table.query_max = query_max;
  table.query_tile = query_tile;
  table.dot_rows = score_rows<false>;
  table.distance_rows = score_rows<true>;
  table.dot_tile = score_tile<Vector, false>;
  table.distance_tile = score_tile<Vector, true>;
  table.thresholds = thresholds;
  table.scan = scan;
  table.scan_nibbles = scan_nibbles;
  table.dots = dots;
  table.pick = pick;
  table.best_scores = best_scores<largest>;
  table.widen = widen;
  return table;
}

}  // namespace shortlist::kernels
