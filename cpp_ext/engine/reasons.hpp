// Why items are in an answer: what of a request, left out, makes each of them fall (internal).
//
// A request has evidence: the known items of its history and the features it gives, or those that
// are stored of its user. Left out means that the history closes its gap and that a feature is
// missing; all else stays, and the items of the whole history stay excluded as seen.
//
// The margin of an item in a list of n is its score minus the n-th best of the others: above 0 as
// long as it is in the list. The others are those of the list and the 64 behind it. The first
// reason for an item is the evidence without which its margin falls most; the next ones are found
// in the same way, without those before. Every score is one on such a request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/call.hpp"
#include "engine/column_values.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

constexpr std::int64_t kNoReason = -1;
// A feature, by the number of its input of the graph.
constexpr std::int64_t feature_reason(std::size_t input) {
  return -2 - static_cast<std::int64_t>(input);
}
constexpr std::size_t input_of_reason(std::int64_t what) {
  return static_cast<std::size_t>(-2 - what);
}

struct ReasonOptions {
  std::size_t n_reasons = 3;
  // Of the evidence for an item, how many pieces are tried again behind its first reason: those of
  // the largest drops alone; 0 = all.
  std::size_t n_tried = 4;
  // By rows of the bundle as it was exported: items of one number are left out together; negative =
  // each alone. Null = all alone.
  const std::int64_t* groups = nullptr;
};

// Room for n_requests * top_n * n_reasons of each.
struct ReasonsView {
  // A row of the bundle as it was exported (of a group: its newest item), feature_reason,
  // kNoReason.
  std::int64_t* what = nullptr;
  // By how much the margin falls without it, after those before.
  float* drops = nullptr;
  // 1: a search without it and those before does not find the item.
  unsigned char* leaves = nullptr;
};

// One request, and what of it can be left out.
class Evidence {
 public:
  // `bound`, of which request i counts, is borrowed. `known` are the items as exported, of which
  // the graph looks at the last max_history.
  Evidence(const std::vector<BoundColumn>& bound, std::size_t i, const IndexView& known,
           std::size_t max_history, const std::int64_t* groups);

  // Pieces, the newest of the history first, then features.
  std::size_t size() const { return what_.size(); }
  std::int64_t what(std::size_t piece) const { return what_[piece]; }
  // Whether without them some item of the history is left that the graph knows.
  bool keeps_some_item(const std::vector<std::size_t>& pieces) const;
  // Adds the request without some pieces, to columns in the order of `bound`.
  void add_without(const std::vector<std::size_t>& pieces,
                   std::vector<ColumnValues>* columns) const;

 private:
  void find_items(const IndexView& known, std::size_t max_history, const std::int64_t* groups);
  void find_features();

  const std::vector<BoundColumn>& bound_;
  std::size_t request_;
  std::vector<std::int64_t> what_;
  std::vector<std::size_t> piece_of_;  // of each entry of the history, or none
};

}  // namespace shortlist::engine
