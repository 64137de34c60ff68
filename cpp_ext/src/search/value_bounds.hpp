// Bounds of the values that items have for maximal marginal relevance, from their codes (internal).
//
// mmr.hpp says what the value of an item is. A scan of the codes gives a range for each score
// (docs/exact_top_n.md), so that one pass over the catalogue bounds the values of all items,
// whatever was chosen. Items chosen since the last pass are all that the next one scans for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/kernels.hpp"
#include "src/search/query.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

class ValueBounds {
 public:
  ValueBounds(const Snapshot& snapshot, const kernels::Table& table, double diversity);

  // Whether the codes of the snapshot give a range of scores: not for euclidean, nor for codes that
  // are short or have a scale each.
  static bool are_known(const Snapshot& snapshot);

  // Counts vectors of `dim` numbers, whose scores bound the values from now on: the query first,
  // then items that were chosen.
  void count(const std::vector<const float*>& vectors);
  std::size_t n_counted() const { return n_counted_; }
  // Appends the rows of about n_wanted items with the greatest bounds, and of all that have no
  // codes. Returns what no other item's bound is above, but for kRounding. @pre n_counted() > 1
  double best(std::size_t n_wanted, std::vector<std::int64_t>* rows);

  // Of the bounds, in lengths of query times item.
  static constexpr double kRounding = 2e-6;

 private:
  struct Part {
    const SegmentView* view;
    std::size_t first;  // of its items in relevance_ and likeness_
  };
  void count_part(const Part& part, const std::vector<PreparedQuery>& queries, bool has_query);

  const Snapshot& snapshot_;
  const kernels::Table& table_;
  const float diversity_;
  std::size_t n_counted_ = 0;
  std::vector<Part> parts_;
  std::vector<float> relevance_;  // not below the score for the query, whole blocks
  std::vector<float> likeness_;   // not above the greatest score for a chosen item
};

}  // namespace shortlist
