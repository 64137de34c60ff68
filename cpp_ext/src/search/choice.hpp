// How the items of one list are chosen where their scores alone do not decide (internal).
#pragma once

#include <cstddef>
#include <vector>

#include "shortlist/neighbor.hpp"
#include "src/search/selection.hpp"

namespace shortlist {

// Knows some of the items, and what any other can be worth at most. Whoever searches gives it more
// until the selection is done: the best by score, what search_for() finds, or every item there is.
class Choice {
 public:
  virtual ~Choice() = default;

  // Whether the next item is the one of the best score; take_best() gets a list by score.
  virtual bool takes_best() const = 0;
  virtual void take_best(Selection* selection, std::vector<Neighbor> list, bool is_all) = 0;
  // Chooses from the items that are known until the selection is done. False if more items must be
  // looked at before the next choice.
  virtual bool choose(Selection* selection) = 0;
  // Sets to 0 what needs no look: items that are known, or that cannot be worth enough.
  virtual void narrow(std::vector<unsigned char>* mask) = 0;
  // What to look at then: all of the mask without a search, or n_wanted() items near search_for().
  virtual bool wants_all(const std::vector<unsigned char>& mask) const = 0;
  virtual std::size_t n_wanted() const = 0;
  virtual const float* search_for() = 0;  // valid until the next call
  // What was found of the mask: `is_all` if there are no others in it.
  virtual void know(const std::vector<Neighbor>& found, bool is_all) = 0;
  virtual void know_all(const std::vector<unsigned char>& mask) = 0;

  // Puts the items of a list into their order. `has_quotas`: they were not all chosen by value.
  virtual void arrange(std::vector<Neighbor>* picks, bool has_quotas) = 0;
};

}  // namespace shortlist
