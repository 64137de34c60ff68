// The list of one request by diversity, calibration or dampening, from candidates that a second
// stage has ordered (internal).
//
// Scores of a second stage are no similarities. So the candidate at its rank r counts as similar as
// the r-th nearest of them: the order is the second stage's, the sizes are those that the options
// weigh. Candidates are few, and all of them are looked at for every place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "shortlist/index.hpp"
#include "shortlist/neighbor.hpp"
#include "shortlist/variety.hpp"
#include "src/search/calibration.hpp"
#include "src/search/selection.hpp"

namespace shortlist::engine {

class CandidateChoice {
 public:
  // Borrowed for the length of a call. `most_values` as CalibratedList wants it.
  CandidateChoice(const IndexView& items, const Variety& variety, std::size_t request,
                  std::size_t top_n, std::size_t most_values);

  // Whether the request weighs similarities at all.
  static bool is_for(const Variety& variety, std::size_t request);

  // Further candidates, best first: their similarities, the greatest first, and their rows.
  void add(const float* similarities, const std::int64_t* rows, std::size_t n);
  // Takes the best for every place while there are any; `is_all`: all that the selection may take
  // now was added. The first call is about all items, those that follow about what was left.
  void choose(Selection* selection, bool is_all);
  // The order of the answer.
  std::vector<Neighbor> arranged(const Selection& selection);

 private:
  struct Candidate {
    Neighbor item;
    CalibratedList::Pattern pattern;
    float most_alike;  // of the items chosen so far
  };
  double value(const Candidate& candidate) const;
  bool wins_tie(const Candidate& one, const Candidate& other) const;
  const Candidate* best_of(const std::function<bool(std::int64_t)>& may_take) const;
  // Counts one of the candidates as chosen.
  void count(const Candidate& chosen);
  void compare(std::size_t chosen, std::size_t first);

  const IndexView& items_;
  std::optional<CalibratedList> list_;
  double diversity_, weight_;
  const double* terms_;
  std::vector<std::size_t> chosen_;  // of the candidates
  std::optional<bool> first_is_all_;
  std::vector<Candidate> candidates_;
  std::vector<float> vectors_;  // (candidates, dim), where they are compared with each other
};

}  // namespace shortlist::engine
