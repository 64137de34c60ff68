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

// Exclusion wins over permission. At most one of the four `allow` forms is set.
struct Filter {
  RaggedRows exclude;                        // rows that must not come back
  RaggedRows allow;                          // per query: only these rows
  const std::int64_t* allow_rows = nullptr;  // shared by all queries: only these rows
  std::size_t n_allow_rows = 0;
  const unsigned char* allow_mask = nullptr;  // shared: one byte per item, 0 = not allowed
  // Some masks, and the number of each query's; a mask that is null allows everything.
  const unsigned char* const* allow_masks = nullptr;
  std::size_t n_allow_masks = 0;
  const std::int64_t* mask_of = nullptr;
};

// The filter of the queries from `first` on.
inline Filter filter_from(Filter filter, std::size_t first) {
  if (filter.exclude.splits != nullptr) filter.exclude.splits += first;
  if (filter.allow.splits != nullptr) filter.allow.splits += first;
  if (filter.mask_of != nullptr) filter.mask_of += first;
  return filter;
}

}  // namespace shortlist
