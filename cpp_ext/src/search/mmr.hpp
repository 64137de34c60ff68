// Greedy maximal marginal relevance over a whole catalogue (internal).
//
// An item i is worth v(i) = (1 - d) s(i) - d max over the chosen j of s(j, i): s is the metric's
// score, d the diversity. For any weights w of the chosen items that sum to 1,
//   v(i) <= (1 - d) s(i) - d sum w[j] s(j, i),
// which is one dot product for cosine and dot: a search finds the items with the greatest bounds,
// and the last of them bounds all others. v only falls while more items are chosen, so what was
// found stays a bound, and few searches serve many choices. Where a small search does not decide,
// as with much diversity, a pass over the codes bounds the value itself (value_bounds.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "shortlist/neighbor.hpp"
#include "src/kernels/kernels.hpp"
#include "src/search/choice.hpp"
#include "src/search/selection.hpp"
#include "src/search/value_bounds.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

// The greatest length of an item, where a bound can be had; else infinity.
double largest_norm(const Snapshot& snapshot);

class Mmr : public Choice {
 public:
  // `query` is a float64 query, as PreparedQuery::exact() gives it, and is copied.
  Mmr(const Snapshot& snapshot, const kernels::Table& table, const double* query, double diversity,
      double item_norm);

  // Counts an item as chosen: the first one, which is the best by score, or one that was chosen
  // before and need not be an item here.
  void begin(std::int64_t row);
  void begin(const float* vector);

  bool takes_best() const override { return n_chosen_ == 0; }
  void take_best(Selection* selection, std::vector<Neighbor> list, bool is_all) override;
  bool choose(Selection* selection) override;
  bool wants_all(const std::vector<unsigned char>& mask) const override;
  std::size_t n_wanted() const override { return n_wanted_; }
  const float* search_for() override;
  void narrow(std::vector<unsigned char>* mask) override;
  void know(const std::vector<Neighbor>& found, bool is_all) override;
  void know_all(const std::vector<unsigned char>& mask) override;
  void arrange(std::vector<Neighbor>* picks, bool has_quotas) override;

 private:
  // An item that is known. `bound` is its value where all choices are counted in it; it is above
  // its value while some are not.
  struct Entry {
    double bound;
    std::int64_t row;
    std::int64_t slot;
    std::uint32_t segment, n_counted;
    float score, most_alike;
  };
  static bool is_behind(const Entry& one, const Entry& other) {
    return one.bound < other.bound || (one.bound == other.bound && one.row > other.row);
  }
  void add(const std::vector<std::int64_t>& rows);
  bool has_bounds() const;
  void know_best(const std::vector<unsigned char>& mask);
  double slack(double rounding) const;
  // The items in the order in which they are chosen from among themselves.
  std::vector<Neighbor> ordered(const std::vector<Neighbor>& picks);
  void count_new(std::size_t segment, std::size_t first);
  void count(Entry* entry) const;
  void forget();
  // Takes the best entry off the heap, with all choices counted in it.
  Entry pop();
  void push(const Entry& entry);
  double value(float score, float most_alike) const;
  float score(const double* query, const Entry& entry) const;
  std::vector<double> weights() const;

  const double* chosen(std::size_t number) const { return chosen_.data() + number * query_.size(); }

  const Snapshot& snapshot_;
  const kernels::Table& table_;
  std::vector<double> query_;
  double diversity_, item_norm_, query_norm_ = 0;
  std::vector<double> chosen_;  // the items, as queries
  std::size_t n_chosen_ = 0;
  double chosen_norm_ = 0;  // of the longest
  std::vector<Entry> heap_;
  std::vector<std::int64_t> known_;
  double bound_ = 0;  // of all items that are not known
  std::size_t n_wanted_ = 0;
  std::unique_ptr<ValueBounds> bounds_;  // from the first pass on
  double factor_ = 0, slack_ = 0;        // from the score of the search at hand to a bound
  std::vector<float> search_;
};

}  // namespace shortlist
