#include "ort_op/rerank_followers_kernel.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "ort_op/rerank_loops.hpp"

namespace shortlist::ort_op {
namespace {

constexpr const char* kName = "RerankFollowers";

// What one request leaves to the next one of the same thread.
struct Buffers {
  std::vector<std::int32_t> codes;
  std::vector<std::int64_t> latest;
  std::vector<float> totals;
};

// Not inline, as GCC would ask for their address at every use.
[[gnu::noinline]] Buffers& thread_buffers() {
  static thread_local Buffers buffers;
  return buffers;
}

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
      followers_(read_constant(api, info, kName, kFollowers, "followers", 2)),
      shares_(read_constant(api, info, kName, kShares, "shares", 2)),
      fading_(read_constant(api, info, kName, kFading, "fading", 1)),
      weight_(read_constant(api, info, kName, kWeight, "weight", 1)),
      n_codes_(static_cast<std::size_t>(followers_.shape[0])),
      n_followers_(static_cast<std::size_t>(followers_.shape[1])) {
  if (n_codes_ == 0 || n_codes_ > std::numeric_limits<std::int32_t>::max()) {
    throw_bad(kName, "followers", "shape " + to_text(followers_.shape), "1 to 2^31 - 1 rows");
  }
  if (shares_.shape != followers_.shape) {
    throw_bad(kName, "shares", "shape " + to_text(shares_.shape),
              to_text(followers_.shape) + " as followers");
  }
  if (fading_.size == 0) throw_bad(kName, "fading", "no numbers", "one for each latest item");
  if (weight_.size != 1) throw_bad(kName, "weight", "shape " + to_text(weight_.shape), "(1,)");
}

OrtStatus* RerankFollowersKernel::run(OrtKernelContext* context) const noexcept {
  return guarded(api_, [&] { compute(context); });
}

void RerankFollowersKernel::compute(OrtKernelContext* context) const {
  const Candidates candidates(api_, context, kName, n_codes_);
  candidates.rerank(
      [&](std::size_t request, float* scores) { score(candidates, request, scores); });
}

void RerankFollowersKernel::score(const Candidates& candidates, std::size_t request,
                                  float* scores) const {
  Buffers& buffers = thread_buffers();
  std::vector<std::int32_t>& codes = buffers.codes;
  std::vector<std::int64_t>& latest = buffers.latest;
  std::vector<float>& totals = buffers.totals;
  const std::size_t n = candidates.n_candidates(), n_latest = fading_.size;
  codes.resize(n);
  std::transform(candidates.codes(request), candidates.codes(request) + n, codes.begin(),
                 [](std::int64_t code) { return static_cast<std::int32_t>(code); });
  totals.assign(n, 0.0F);
  candidates.read_latest(request, n_latest, &latest);
  const RerankLoops& loops = rerank_loops();
  for (std::size_t age = latest.size(); age-- > 0;) {  // the oldest first
    const std::size_t row = static_cast<std::size_t>(latest[age]) * n_followers_;
    const float faded = fading_.as<float>()[n_latest - 1 - age];
    for (std::size_t i = row; i < row + n_followers_; ++i) {
      const std::int32_t code = followers_.as<std::int32_t>()[i];
      if (code <= 0) continue;
      loops.add_matches(codes.data(), n, code, shares_.as<float>()[i] * faded, totals.data());
    }
  }
  const float weight = *weight_.as<float>();
  for (std::size_t i = 0; i < n; ++i) {
    const float gain = codes[i] > 0 ? weight * totals[i] : 0.0F;
    scores[i] = (candidates.is_missing(request, i) ? 0.0F : candidates.scores(request)[i]) + gain;
  }
}

}  // namespace shortlist::ort_op
