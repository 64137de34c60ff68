// Lists by scores that are dampened by what items are, and that come near to a distribution of
// values (internal).
//
// A dampened score is s(i) - w t(i), rounded once; without dampening it is s(i). A calibrated query
// takes the item with the greatest (1 - c) s(i) - c * distance of the list with it, which is as far
// for all items of one pattern: the best of each pattern is looked at. Of equal values the better
// score comes first, then the lower row. The list is in the order of scores. Items that are not
// known have no better score than the last that a search found, and no list is nearer than
// CalibratedList::least_distance().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "shortlist/neighbor.hpp"
#include "src/kernels/kernels.hpp"
#include "src/search/calibration.hpp"
#include "src/search/choice.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

class Adjusted : public Choice {
 public:
  // `query` is borrowed; `exact` is the same as PreparedQuery::exact() gives it, and is copied.
  Adjusted(const Snapshot& snapshot, const kernels::Table& table, const float* query,
           const double* exact, const Variety& variety, std::size_t number, std::size_t top_n,
           std::size_t most_values);

  bool takes_best() const override { return false; }
  void take_best(Selection* /*selection*/, std::vector<Neighbor> /*list*/,
                 bool /*is_all*/) override {}
  bool choose(Selection* selection) override;
  void narrow(std::vector<unsigned char>* mask) override;
  bool wants_all(const std::vector<unsigned char>& mask) const override;
  std::size_t n_wanted() const override { return n_wanted_; }
  const float* search_for() override { return query_; }
  void know(const std::vector<Neighbor>& found, bool is_all) override;
  void know_all(const std::vector<unsigned char>& mask) override;
  void arrange(std::vector<Neighbor>* picks, bool has_quotas) override;

 private:
  using Pattern = CalibratedList::Pattern;
  // Known items of one pattern that are not chosen: a heap, the best first.
  struct Group {
    Pattern pattern;
    double distance = 0;
    std::vector<Neighbor> items;
  };
  struct Hash {
    std::size_t operator()(const Pattern& pattern) const;
  };

  void forget();
  void add(const Neighbor& item);
  void settle();
  void set_bound(float last, bool is_all);
  // The group of the next item; null if there is none.
  Group* best_group();
  Neighbor pop(Group* group);
  void count(const Group& group);
  double value(float score, double distance) const;
  float dampened(float score, std::int64_t row) const;

  const Snapshot& snapshot_;
  const kernels::Table& table_;
  const float* query_;
  std::vector<double> exact_;
  std::unique_ptr<CalibratedList> list_;  // null = not calibrated
  const double* terms_;
  double weight_;

  std::vector<Group> groups_;
  std::unordered_map<Pattern, std::size_t, Hash> numbers_;  // of the groups
  std::vector<std::int64_t> known_;
  std::size_t n_left_ = 0, n_wanted_ = 0;
  // Items that are not known have no better score than bound_. The last search left out those that
  // cannot have cut_: raw_ bounds the scores of all before they are dampened, inner_ those of the
  // items that it did not leave out.
  float bound_ = 0, cut_ = 0, raw_ = 0, inner_ = 0;
};

}  // namespace shortlist
