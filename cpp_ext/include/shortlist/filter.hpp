// Which rows a query may return. All views are borrowed for the length of one call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shortlist {

// One list of item rows per query: query i owns values[splits[i], splits[i + 1]). Negative rows
// stand for ids that the index does not know and are ignored; order and repeats do not matter.
struct RaggedRows {
  const std::int64_t* values = nullptr;
  const std::int64_t* splits = nullptr;  // n_queries + 1 entries; null = no lists at all
};

// Exclusion wins over permission. At most one of the three `allow` forms is set.
struct Filter {
  RaggedRows exclude;                        // rows that must not come back
  RaggedRows allow;                          // per query: only these rows
  const std::int64_t* allow_rows = nullptr;  // shared by all queries: only these rows
  std::size_t n_allow_rows = 0;
  const unsigned char* allow_mask = nullptr;  // shared: one byte per item, 0 = not allowed
};

}  // namespace shortlist
