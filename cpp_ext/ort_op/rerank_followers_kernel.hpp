// ai.shortlist.RerankFollowers, version 1: the candidates of a first stage by its score and by what
// followed the latest items of the history in the training.
//
// Inputs
//   those of candidates.hpp, then constants: those of follower_table.hpp, and
//   weight      float (1,)
// Outputs
//   those of candidates.hpp
//
// New score = first score + weight * FollowerTable::sum_shares.
#pragma once

#include "ort_op/candidates.hpp"
#include "ort_op/follower_table.hpp"
#include "ort_op/ort_api.hpp"

namespace shortlist::ort_op {

class RerankFollowersKernel {
 public:
  enum Input : std::size_t {
    kFollowers = Candidates::kNInputs,
    kShares,
    kFading,
    kWeight,
    kNInputs
  };
  enum Output : std::size_t { kNOutputs = Candidates::kNOutputs };

  static ONNXTensorElementDataType input_type(std::size_t number);
  static ONNXTensorElementDataType output_type(std::size_t number);

  // Throws std::invalid_argument if the node is not as described.
  RerankFollowersKernel(const OrtApi& api, const OrtKernelInfo* info);
  // One run of the node; what goes wrong comes back as a status.
  OrtStatus* run(OrtKernelContext* context) const noexcept;

 private:
  void compute(OrtKernelContext* context) const;
  void score(const Candidates& candidates, std::size_t request, float* scores) const;

  const OrtApi& api_;
  FollowerTable followers_;
  Tensor weight_;
};

}  // namespace shortlist::ort_op
