// ai.shortlist.RerankDense, version 1: the DNN scorer over the candidates of a first stage, and
// their best by it. In one node, so that nothing larger than one request's candidates is in memory.
//
// Inputs
//   those of candidates.hpp, then constants:
//   of_history     float (n_codes, n_factors) and
//   of_candidate   float (n_codes, n_factors): tables by item code. Row 0 of of_candidate is not
//                  looked at.
//   popularity     float (n_codes,)
//   mean, std      float (n_features,): of the features below, 5 or 6 with followers
//   sizes          int64 (n_layers + 1,): numbers that each dense layer takes; n_features first,
//                  1 at the end
//   weights        float (n_weights,): matrix (n_in, n_out), then bias (n_out,), layer by layer
//   those of follower_table.hpp, optional, all or none
// Outputs
//   those of candidates.hpp
// Attributes
//   history_length, n_latest   int: the known items of a history that count, the newest ones
//   activation, output         text: relu, tanh, sigmoid or gelu; linear or sigmoid
//
// Features of a candidate, each brought to mean 0 and standard deviation 1: log(1 + items of the
// history that count); the first stage's score; its factors times the sum of the history's; the
// same of the n_latest newest; its popularity; with followers, FollowerTable::sum_shares. All but
// the first two are 0 where the code is 0.
#pragma once

#include <optional>
#include <vector>

#include "ort_op/candidates.hpp"
#include "ort_op/follower_table.hpp"
#include "ort_op/ort_api.hpp"
#include "ort_op/rerank_loops.hpp"

namespace shortlist::ort_op {

class RerankDenseKernel {
 public:
  enum Input : std::size_t {
    kOfHistory = Candidates::kNInputs,
    kOfCandidate,
    kPopularity,
    kMean,
    kStd,
    kSizes,
    kWeights,
    kFollowers,
    kShares,
    kFading,
    kNInputs
  };
  enum Output : std::size_t { kNOutputs = Candidates::kNOutputs };

  static ONNXTensorElementDataType input_type(std::size_t number);
  static ONNXTensorElementDataType output_type(std::size_t number);

  // Throws std::invalid_argument if the node is not as described.
  RerankDenseKernel(const OrtApi& api, const OrtKernelInfo* info);
  // One run of the node; what goes wrong comes back as a status.
  OrtStatus* run(OrtKernelContext* context) const noexcept;

 private:
  static constexpr std::size_t kMostFeatures = 6;
  struct Layer {
    std::size_t n_in, n_out;
    const float* weights;
    const float* bias;
  };
  class Request;

  void read_layers();
  void compute(OrtKernelContext* context) const;

  const OrtApi& api_;
  std::size_t history_length_, n_latest_;
  Activation activation_;
  bool has_sigmoid_;
  Tensor of_history_, of_candidate_, popularity_, mean_, std_, sizes_, weights_;
  std::optional<FollowerTable> followers_;
  std::size_t n_codes_, n_factors_, n_features_, widest_ = 1;
  float scale_[kMostFeatures];  // 1 / std
  std::vector<Layer> layers_;
};

}  // namespace shortlist::ort_op
