#include "engine/providers.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/errors.hpp"

namespace shortlist::engine {
namespace {

constexpr const char* kCuda = "CUDAExecutionProvider";
constexpr const char* kTensorRt = "TensorrtExecutionProvider";

std::vector<std::string> available_providers(const OrtApi& api) {
  char** names = nullptr;
  int n = 0;
  expect_ok(api, api.GetAvailableProviders(&names, &n), "providers");
  std::vector<std::string> available(names, names + n);
  expect_ok(api, api.ReleaseAvailableProviders(names, n), "providers");
  return available;
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void check_device(const std::string& device) {
  for (const char* known : {"auto", "cpu", "cuda", "tensorrt"}) {
    if (device == known) return;
  }
  throw std::invalid_argument("device: got '" + device +
                              "', expected one of auto, cpu, cuda, tensorrt");
}

Providers::Providers(const OrtApi& api, const std::string& device, const std::string& graph)
    : api_(api), device_(device), graph_(graph) {
  check_device(device);
  const std::vector<std::string> available = available_providers(api);
  const bool wants_cuda = device == "cuda" || (device == "auto" && has(available, kCuda));
  std::vector<std::string> wanted;
  if (device == "tensorrt") wanted = {kTensorRt, kCuda};
  if (wants_cuda) wanted = {kCuda};
  if (!wanted.empty() && !has(available, wanted[0])) {
    throw DeviceMissing("device: got '" + device + "', but this onnxruntime offers only " +
                        joined(available) +
                        "; pip uninstall onnxruntime and install 'shortlist[gpu]', or use "
                        "device='cpu'");
  }
  for (std::string& name : wanted) {
    if (has(available, name)) chosen_.push_back(std::move(name));
  }
  chosen_.emplace_back(kCpuProvider);
}

void Providers::add_to(OrtSessionOptions* options) const {
  for (const std::string& name : chosen_) {
    OrtStatus* status = nullptr;
    if (name == kCuda) {
      OrtCUDAProviderOptionsV2* made = nullptr;
      expect_ok(api_, api_.CreateCUDAProviderOptions(&made), graph_);
      const Handle<OrtCUDAProviderOptionsV2> cuda(made, api_.ReleaseCUDAProviderOptions);
      status = api_.SessionOptionsAppendExecutionProvider_CUDA_V2(options, made);
    } else if (name == kTensorRt) {
      OrtTensorRTProviderOptionsV2* made = nullptr;
      expect_ok(api_, api_.CreateTensorRTProviderOptions(&made), graph_);
      const Handle<OrtTensorRTProviderOptionsV2> trt(made, api_.ReleaseTensorRTProviderOptions);
      status = api_.SessionOptionsAppendExecutionProvider_TensorRT_V2(options, made);
    }
    if (status == nullptr) continue;
    try {
      expect_ok(api_, status, name);
    } catch (const std::exception& error) {
      if (device_ == "auto") throw;
      throw_not_running(kCpuProvider, error.what());
    }
  }
}

std::string Providers::check_runs(const NodeCounts& nodes) const {
  if (nodes.empty()) return chosen_[0];
  const auto most = std::max_element(
      nodes.begin(), nodes.end(),
      [](const auto& one, const auto& other) { return one.second < other.second; });
  const bool is_asked = device_ == "cuda" || device_ == "tensorrt";
  if (is_asked && nodes.count(kCuda) + nodes.count(kTensorRt) == 0) {
    throw_not_running(most->first, "");
  }
  return most->first;
}

void Providers::throw_not_running(const std::string& running, const std::string& why) const {
  throw DeviceMissing("device: got '" + device_ + "', but " + graph_ + " runs on " + running +
                      ": the libraries of " + chosen_[0] +
                      " or a GPU are missing, or it has no kernels for this graph; install "
                      "'shortlist[gpu]' on a machine with an NVIDIA driver, or use 'cpu'" +
                      (why.empty() ? "" : " (" + why + ")"));
}

NodeCounts count_nodes(const Runtime& runtime, const OrtSession* session) {
  NodeCounts counts;
  const OrtApi* api = runtime.assignment_api;
  if (api == nullptr) return counts;
  const OrtEpAssignedSubgraph* const* parts = nullptr;
  std::size_t n_parts = 0;
  if (OrtStatus* unknown = api->Session_GetEpGraphAssignmentInfo(session, &parts, &n_parts)) {
    api->ReleaseStatus(unknown);  // a session that was not told to record it
    return counts;
  }
  for (std::size_t i = 0; i < n_parts; ++i) {
    const char* provider = nullptr;
    const OrtEpAssignedNode* const* nodes = nullptr;
    std::size_t n_nodes = 0;
    expect_ok(*api, api->EpAssignedSubgraph_GetEpName(parts[i], &provider), "providers");
    expect_ok(*api, api->EpAssignedSubgraph_GetNodes(parts[i], &nodes, &n_nodes), "providers");
    counts[provider] += n_nodes;
  }
  return counts;
}

}  // namespace shortlist::engine
