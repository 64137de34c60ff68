// How far a list is from the distribution of values that it is to have (internal).
//
// Steck, "Calibrated recommendations", RecSys 2018: with p the wanted shares, and q the mean over
// the list's places of their item's shares (1 / n for each of its n values), the distance is
//   KL(p || (1 - a) q + a p),  a = 0.01.
// While the list grows, places that are free count as p: so the first items are chosen by score,
// and later ones make up for what they lack. An item without values adds nothing to q.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shortlist/variety.hpp"

namespace shortlist {

// The most values that a row of a column has.
std::size_t most_values(const GroupColumn& column, std::size_t n_rows);

class CalibratedList {
 public:
  // What items have in common that make the same difference: how many values they have, then the
  // numbers in the target of those that it has, ascending.
  using Pattern = std::vector<std::int32_t>;

  // `query` selects the query's part, which is borrowed. @pre it has a target
  CalibratedList(const Calibration& calibration, std::size_t query, std::size_t top_n,
                 std::size_t most_values);

  double strength() const { return strength_; }
  void read(std::int64_t row, Pattern* pattern) const;
  // The distance with one more item of a pattern. @pre the list is not full
  double distance_with(const Pattern& pattern) const;
  // No item, whatever values it has, makes it less.
  double least_distance() const;
  void add(const Pattern& pattern);

 private:
  double term(std::size_t value, double more) const;
  void count_terms();

  const GroupColumn& column_;
  const std::int32_t* values_;
  const double* shares_;
  std::size_t n_values_, most_values_;
  double strength_;
  double length_, n_free_;    // places of the list, and those behind the next item
  std::vector<double> sums_;  // of the items' shares, by value of the target
  std::vector<double> same_;  // terms of the distance with one more item that lacks the value
};

}  // namespace shortlist
