// What a call asks of a bundle, and where its answer goes (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "shortlist/filter.hpp"
#include "shortlist/shortlist.h"
#include "shortlist/variety.hpp"

namespace shortlist::engine {

// Everything is borrowed for the length of the call. Rows are those of the catalogue that is
// called.
struct Call {
  std::size_t n_requests = 0;
  const shortlist_column* columns = nullptr;
  std::size_t n_columns = 0;
  std::size_t top_n = 1;
  // Leave out the items of a request's history, of its user's stored history, and those it skipped.
  bool exclude_seen = true;
  // 1, 2, or 0 = all that the bundle has.
  int stages = 0;
  Filter filter;    // queries are requests
  Variety variety;  // the same
  // Items that each request's user skipped: what is like them goes down.
  RaggedRows skipped;
  // Requests whose own history has the stored one in it; null = none.
  const unsigned char* is_joined = nullptr;
  // Called before every batch but the first; what it throws ends the call. Null = nothing.
  const std::function<void()>* between_batches = nullptr;
};

inline bool has_filter(const Filter& filter) {
  return filter.exclude.splits != nullptr || filter.allow.splits != nullptr ||
         filter.allow_rows != nullptr || filter.allow_mask != nullptr || filter.mask_of != nullptr;
}

// Room for n_requests * top_n scores and rows, and n_requests of the others.
struct AnswerView {
  float* scores = nullptr;
  std::int64_t* rows = nullptr;
  std::int64_t* counts = nullptr;
  std::int64_t* sources = nullptr;  // SHORTLIST_POPULAR, ...
  std::int8_t* stages = nullptr;    // how many made each answer: 0 = the popular list
  // (n_requests, n_quotas): how many items each list lacks; null = nobody asks
  std::int64_t* missing = nullptr;
};

}  // namespace shortlist::engine
