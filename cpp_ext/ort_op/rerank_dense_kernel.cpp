#include "ort_op/rerank_dense_kernel.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace shortlist::ort_op {
namespace {

constexpr const char* kName = "RerankDense";
enum Feature : std::size_t { kLength, kSimilarity, kLinear, kLatest, kPopular, kFollowed };

std::size_t count_of(const OrtApi& api, const OrtKernelInfo* info, const char* attribute) {
  std::int64_t count = 0;
  check(api.KernelInfoGetAttribute_int64(info, attribute, &count));
  if (count < 1) throw_bad(kName, attribute, std::to_string(count), "at least 1");
  return static_cast<std::size_t>(count);
}

Activation activation_of(const OrtApi& api, const OrtKernelInfo* info) {
  const std::string text = text_attribute(api, info, "activation");
  if (text == "relu") return Activation::relu;
  if (text == "tanh") return Activation::tanh;
  if (text == "sigmoid") return Activation::sigmoid;
  if (text == "gelu") return Activation::gelu;
  throw_bad(kName, "activation", "'" + text + "'", "relu, tanh, sigmoid or gelu");
}

bool has_sigmoid_output(const OrtApi& api, const OrtKernelInfo* info) {
  const std::string text = text_attribute(api, info, "output");
  if (text == "linear" || text == "sigmoid") return text == "sigmoid";
  throw_bad(kName, "output", "'" + text + "'", "linear or sigmoid");
}

// What one request leaves to the next one of the same thread.
struct Buffers {
  std::vector<float> features, values, next, sums;
  std::vector<std::int64_t> codes;
};

// Not inline, as GCC would ask for their address at every use.
[[gnu::noinline]] Buffers& thread_buffers() {
  static thread_local Buffers buffers;
  return buffers;
}

}  // namespace

ONNXTensorElementDataType RerankDenseKernel::input_type(std::size_t number) {
  if (number == kFollowers) return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  const bool is_float = number == Candidates::kScores || (number >= kOfHistory && number != kSizes);
  return is_float ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
}

ONNXTensorElementDataType RerankDenseKernel::output_type(std::size_t number) {
  return number == Candidates::kBestScores ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                           : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
}

RerankDenseKernel::RerankDenseKernel(const OrtApi& api, const OrtKernelInfo* info)
    : api_(api),
      history_length_(count_of(api, info, "history_length")),
      n_latest_(count_of(api, info, "n_latest")),
      activation_(activation_of(api, info)),
      has_sigmoid_(has_sigmoid_output(api, info)),
      of_history_(read_constant(api, info, kName, kOfHistory, "of_history", 2)),
      of_candidate_(read_constant(api, info, kName, kOfCandidate, "of_candidate", 2)),
      popularity_(read_constant(api, info, kName, kPopularity, "popularity", 1)),
      mean_(read_constant(api, info, kName, kMean, "mean", 1)),
      std_(read_constant(api, info, kName, kStd, "std", 1)),
      sizes_(read_constant(api, info, kName, kSizes, "sizes", 1)),
      weights_(read_constant(api, info, kName, kWeights, "weights", 1)),
      n_codes_(static_cast<std::size_t>(of_history_.shape[0])),
      n_factors_(static_cast<std::size_t>(of_history_.shape[1])),
      n_features_(kMostFeatures - 1) {
  std::size_t n_inputs = 0;
  check(api.KernelInfo_GetInputCount(info, &n_inputs));
  if (n_inputs > kFollowers) {
    followers_.emplace(api, info, kName, kFollowers);
    n_features_ = kMostFeatures;
    if (followers_->n_codes() != n_codes_) {
      throw_bad(kName, "followers", std::to_string(followers_->n_codes()) + " rows",
                std::to_string(n_codes_) + " as of_history");
    }
  }
  if (of_candidate_.shape != of_history_.shape) {
    throw_bad(kName, "of_candidate", "shape " + to_text(of_candidate_.shape),
              to_text(of_history_.shape) + " as of_history");
  }
  if (n_codes_ == 0 || popularity_.size != n_codes_) {
    throw_bad(kName, "popularity", "shape " + to_text(popularity_.shape),
              "(" + std::to_string(std::max<std::size_t>(1, n_codes_)) + ",), one for each code");
  }
  if (mean_.size != n_features_ || std_.size != n_features_) {
    throw_bad(kName, "mean and std", to_text(mean_.shape) + " and " + to_text(std_.shape),
              "(" + std::to_string(n_features_) + ",), one for each feature");
  }
  for (std::size_t i = 0; i < n_features_; ++i) scale_[i] = 1.0F / std_.as<float>()[i];
  read_layers();
}

void RerankDenseKernel::read_layers() {
  const std::int64_t* const sizes = sizes_.as<std::int64_t>();
  const std::size_t n = sizes_.size;
  const auto is_size = [](std::int64_t size) { return size >= 1 && size <= 1 << 20; };
  if (n < 2 || !std::all_of(sizes, sizes + n, is_size) || sizes[n - 1] != 1 ||
      static_cast<std::size_t>(sizes[0]) != n_features_) {
    throw_bad(kName, "sizes", "other numbers",
              std::to_string(n_features_) + " first, 1 at the end, none below 1");
  }
  std::size_t at = 0;
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const auto n_in = static_cast<std::size_t>(sizes[i]);
    const auto n_out = static_cast<std::size_t>(sizes[i + 1]);
    const std::size_t n_weights = (n_in + 1) * n_out;
    if (n_weights > weights_.size - at) break;
    layers_.push_back(
        {n_in, n_out, weights_.as<float>() + at, weights_.as<float>() + at + n_in * n_out});
    widest_ = std::max({widest_, n_in, n_out});
    at += n_weights;
  }
  if (layers_.size() + 1 != n || at != weights_.size) {
    throw_bad(kName, "weights", std::to_string(weights_.size) + " numbers",
              "a matrix and a bias for each of the layers in sizes");
  }
}

// Scores the candidates of one request at a time.
class RerankDenseKernel::Request {
 public:
  Request(const RerankDenseKernel& kernel, const Candidates& candidates)
      : kernel_(kernel), candidates_(candidates), loops_(rerank_loops()) {}

  void operator()(std::size_t request, float* scores) const {
    Buffers& buffers = thread_buffers();
    std::vector<float>&values = buffers.values, &next = buffers.next;
    const std::size_t n = candidates_.n_candidates();
    const std::size_t stride = (n + kRerankLanes - 1) / kRerankLanes * kRerankLanes;
    buffers.features.resize(kernel_.n_features_ * stride);
    values.resize(kernel_.widest_ * kRerankLanes);
    next.resize(values.size());
    fill(request, stride, buffers.features.data());
    for (std::size_t first = 0; first < n; first += kRerankLanes) {
      const float* from = buffers.features.data() + first;
      std::size_t apart = stride;
      for (std::size_t i = 0; i < kernel_.layers_.size(); ++i) {
        const Layer& layer = kernel_.layers_[i];
        const bool is_last = i + 1 == kernel_.layers_.size();
        loops_.dense(from, apart, layer.n_in, layer.weights, layer.bias, layer.n_out,
                     is_last ? Activation::none : kernel_.activation_, next.data());
        values.swap(next);
        from = values.data();
        apart = kRerankLanes;
      }
      std::copy_n(from, std::min(kRerankLanes, n - first), scores + first);
    }
    if (!kernel_.has_sigmoid_) return;
    for (std::size_t i = 0; i < n; ++i) scores[i] = 1.0F / (1.0F + std::exp(-scores[i]));
  }

 private:
  // The features of all candidates: (n_features, stride).
  void fill(std::size_t request, std::size_t stride, float* features) const {
    constexpr float kLeast = std::numeric_limits<float>::lowest();
    std::vector<float>& sums = thread_buffers().sums;
    const std::size_t n = candidates_.n_candidates(), dim = kernel_.n_factors_;
    sums.assign(2 * dim, 0.0F);
    const std::size_t length = sum_history(request, sums.data());
    const std::int64_t* const codes = candidates_.codes(request);
    const auto row = [&](Feature feature) { return features + feature * stride; };
    const auto standard = [this](Feature feature, float value) {
      return (value - kernel_.mean_.as<float>()[feature]) * kernel_.scale_[feature];
    };
    const float of_length = standard(kLength, std::log(1.0F + static_cast<float>(length)));
    std::fill_n(row(kLength), stride, of_length);
    const float* const similarity = candidates_.scores(request);
    float* out = row(kSimilarity);
    for (std::size_t i = 0; i < n; ++i) {  // -infinity at missing places
      out[i] = standard(kSimilarity, similarity[i] >= kLeast ? similarity[i] : 0.0F);
    }
    loops_.dot_two(kernel_.of_candidate_.as<float>(), dim, codes, n, sums.data(), sums.data() + dim,
                   row(kLinear), row(kLatest));
    const float* const popularity = kernel_.popularity_.as<float>();
    for (std::size_t i = 0; i < n; ++i) row(kPopular)[i] = popularity[codes[i]];
    if (kernel_.followers_) kernel_.followers_->sum_shares(candidates_, request, row(kFollowed));
    for (std::size_t number = kLinear; number < kernel_.n_features_; ++number) {
      const auto feature = static_cast<Feature>(number);
      out = row(feature);
      for (std::size_t i = 0; i < n; ++i) {
        out[i] = codes[i] > 0 ? standard(feature, out[i]) : 0.0F;
      }
    }
  }

  // Sums of the history's factors: all of it, then its latest items. Returns how many items count.
  std::size_t sum_history(std::size_t request, float* sums) const {
    std::vector<std::int64_t>& codes = thread_buffers().codes;
    const std::size_t dim = kernel_.n_factors_;
    const float* const table = kernel_.of_history_.as<float>();
    candidates_.read_latest(request, kernel_.history_length_, &codes);
    const std::size_t n_latest = std::min(codes.size(), kernel_.n_latest_);
    loops_.add_rows(table, dim, codes.data(), n_latest, sums);
    std::copy_n(sums, dim, sums + dim);
    loops_.add_rows(table, dim, codes.data() + n_latest, codes.size() - n_latest, sums);
    return codes.size();
  }

  const RerankDenseKernel& kernel_;
  const Candidates& candidates_;
  const RerankLoops& loops_;
};

OrtStatus* RerankDenseKernel::run(OrtKernelContext* context) const noexcept {
  return guarded(api_, [&] { compute(context); });
}

void RerankDenseKernel::compute(OrtKernelContext* context) const {
  const Candidates candidates(api_, context, kName, n_codes_);
  candidates.rerank(Request(*this, candidates));
}

}  // namespace shortlist::ort_op
