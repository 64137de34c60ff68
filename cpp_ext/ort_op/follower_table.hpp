// What followed each item in the training, as constants of a node of our rerankers:
//   followers   int32 (n_codes, n_followers): item codes; 0 = there are no more
//   shares      float (n_codes, n_followers): how often each follows
//   fading      float (n_latest,): what the latest items count for, the newest last
#pragma once

#include <cstddef>
#include <string>

#include "ort_op/candidates.hpp"
#include "ort_op/ort_api.hpp"

namespace shortlist::ort_op {

class FollowerTable {
 public:
  // Takes the three constants that begin with number `first`. Throws std::invalid_argument.
  FollowerTable(const OrtApi& api, const OrtKernelInfo* info, const std::string& name,
                std::size_t first);

  std::size_t n_codes() const { return n_codes_; }
  // Writes, for each of a request's candidates, the sum over the latest items of its history of
  // fading * share of the candidate among the item's followers; 0 where the candidate's code is 0.
  void sum_shares(const Candidates& candidates, std::size_t request, float* sums) const;

 private:
  Tensor followers_, shares_, fading_;
  std::size_t n_codes_, n_followers_;
};

}  // namespace shortlist::ort_op
