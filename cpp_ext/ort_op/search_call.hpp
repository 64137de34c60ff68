// What the engine tells its operators about a call, beside the tensors of the run.
//
// ONNX Runtime runs a custom operator of a sequential session on the thread that called Run. So the
// engine sets the call for that thread around Run, and nothing is copied into tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "shortlist/filter.hpp"
#include "shortlist/index.hpp"
#include "shortlist/variety.hpp"

namespace shortlist::ort_op {

// Items, best first.
struct RankedRows {
  const std::int64_t* rows = nullptr;
  const float* scores = nullptr;
  std::size_t n = 0;
};

// Where the items for requests of which nothing is known come from; made when first asked for.
class PopularItems {
 public:
  virtual RankedRows ranked() const = 0;

 protected:
  ~PopularItems() = default;
};

struct SearchCall {
  // The items at the moment of the call.
  const IndexView* index = nullptr;
  // The code of each row, 0 = an item the graphs do not know; null = row + 1.
  const std::int64_t* codes = nullptr;
  // In place of the graph's; null = the graph's.
  const PopularItems* popular = nullptr;
  // Beside what the graph's own inputs exclude; queries are those of the run.
  Filter filter;
  Variety variety;
  std::int64_t* missing = nullptr;  // as in SearchOutput
  // Rows of items that each query's user skipped: the query moves away from them.
  RaggedRows skipped;
  // The allowed items are given to be scored: every query counts as one with a history.
  bool scores_given = false;
  // Queries from here on fill a batch up to a size that does not change, and are not searched.
  // What else is said here is about those before.
  std::size_t n_queries = std::numeric_limits<std::size_t>::max();
  // Packed histories are as wide as they may be: their shape does not change either.
  bool has_full_width = false;
  // (n, dim): the queries go here, and nothing is searched.
  float* embeddings = nullptr;
};

// Of the run on this thread; null outside of one.
const SearchCall* current_call() noexcept;

// Sets the call of this thread for as long as the object lives.
class CallScope {
 public:
  explicit CallScope(const SearchCall& call) noexcept;
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

 private:
  const SearchCall* outer_;
};

}  // namespace shortlist::ort_op
