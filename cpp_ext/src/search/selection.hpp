// The list of one query under caps and quotas, taken from the top of ordered lists (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "shortlist/neighbor.hpp"
#include "shortlist/variety.hpp"

namespace shortlist {

// Every quota in turn has its places filled with the best items that count, then all others with
// the best of all. An item may be taken while the caps allow all of its values. Lists may be parts:
// whoever makes them offers the next one, of the rows that `narrow` leaves, until is_done().
class Selection {
 public:
  // `number` selects the query's part of the variety, which is borrowed.
  Selection(const Variety& variety, std::size_t number, std::size_t top_n);

  bool is_done() const { return picks_.size() == top_n_ || phase_ > variety_.n_quotas; }
  const std::vector<Neighbor>& picks() const { return picks_; }
  std::size_t n_left() const { return top_n_ - picks_.size(); }
  bool has_quotas() const;

  // Takes up to `most` items from a list, best first: at the first call the best of all rows, then
  // the best of those that narrow() leaves. `is_all`: there are no others.
  void offer(std::vector<Neighbor> list, bool is_all, std::size_t most);
  // Sets to 0 what may not be taken now. @pre !is_done()
  void narrow(std::vector<unsigned char>* mask) const;

  // For choosing in another order than that of a list:
  bool may_take(std::int64_t row) const;
  void take(const Neighbor& item);
  // The quota at hand is met, or there are no places.
  bool is_phase_over() const;
  void end_phase() { ++phase_; }

  // How many items each quota lacks.
  void write_missing(std::int64_t* missing) const;

 private:
  void narrow_by_cap(std::size_t column, std::vector<unsigned char>* mask) const;

  const Variety& variety_;
  const std::int32_t* at_most_;
  const std::int32_t* at_least_;
  std::size_t top_n_;
  std::size_t phase_ = 0;  // the quota at hand; n_quotas = any item
  std::vector<Neighbor> picks_;
  std::unordered_set<std::int64_t> taken_;
  std::vector<std::unordered_map<std::int32_t, std::int32_t>> counts_;  // by column, of values
  std::vector<std::int32_t> n_counted_;                                 // by quota
  std::vector<Neighbor> best_;  // the first list, which every phase begins with
  bool is_first_ = true, best_is_all_ = false;
};

}  // namespace shortlist
