// The answer of a search.
#pragma once

#include <cstdint>

namespace [[gnu::visibility("default")]] shortlist {

// Where a search writes: row-major (n_queries, top_n) scores and rows, (n_queries,) counts. Places
// from counts[i] on hold score -infinity and row -1. The caller owns the memory; no aliasing.
struct SearchOutput {
  float* scores = nullptr;
  std::int64_t* rows = nullptr;
  std::int64_t* counts = nullptr;
  // (n_queries, n_quotas) of a Variety: how many items each list lacks; null = nobody asks.
  std::int64_t* missing = nullptr;
};

}  // namespace shortlist
