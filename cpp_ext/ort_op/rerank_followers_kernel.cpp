#include "ort_op/rerank_followers_kernel.hpp"

namespace shortlist::ort_op {
namespace {

constexpr const char* kName = "RerankFollowers";

}  // namespace

ONNXTensorElementDataType RerankFollowersKernel::input_type(std::size_t number) {
  if (number == kFollowers) return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  return number == Candidates::kScores || number > kFollowers ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                                              : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
}

ONNXTensorElementDataType RerankFollowersKernel::output_type(std::size_t number) {
  return number == Candidates::kBestScores ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                           : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
}

RerankFollowersKernel::RerankFollowersKernel(const OrtApi& api, const OrtKernelInfo* info)
    : api_(api),
      followers_(api, info, kName, kFollowers),
      weight_(read_constant(api, info, kName, kWeight, "weight", 1)) {
  if (weight_.size != 1) throw_bad(kName, "weight", "shape " + to_text(weight_.shape), "(1,)");
}

OrtStatus* RerankFollowersKernel::run(OrtKernelContext* context) const noexcept {
  return guarded(api_, [&] { compute(context); });
}

void RerankFollowersKernel::compute(OrtKernelContext* context) const {
  const Candidates candidates(api_, context, kName, followers_.n_codes());
  candidates.rerank(
      [&](std::size_t request, float* scores) { score(candidates, request, scores); });
}

void RerankFollowersKernel::score(const Candidates& candidates, std::size_t request,
                                  float* scores) const {
  followers_.sum_shares(candidates, request, scores);
  const float weight = *weight_.as<float>();
  for (std::size_t i = 0; i < candidates.n_candidates(); ++i) {
    const bool is_missing = candidates.is_missing(request, i);
    scores[i] = (is_missing ? 0.0F : candidates.scores(request)[i]) + weight * scores[i];
  }
}

}  // namespace shortlist::ort_op
