// An ONNX Runtime made up for tests of devices: it has the providers that a test says, and opens
// graphs without inputs and outputs, or does not. One at a time, as its functions are plain ones.
#pragma once

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "engine/runtime.hpp"

namespace shortlist::ort {

struct OrtStatus {
  OrtErrorCode code;
  std::string message;
};
struct OrtEnv {};
struct OrtMemoryInfo {};
struct OrtSessionOptions {
  std::vector<std::string> providers;  // as they were appended
};
struct OrtSession {};
struct OrtCUDAProviderOptionsV2 {};
struct OrtTensorRTProviderOptionsV2 {};
struct OrtEpAssignedNode {};
struct OrtEpAssignedSubgraph {
  std::string provider;
  std::vector<const OrtEpAssignedNode*> nodes;
};

}  // namespace shortlist::ort

namespace shortlist::engine {

constexpr const char* kCpu = "CPUExecutionProvider";
constexpr const char* kCuda = "CUDAExecutionProvider";
constexpr const char* kTensorRt = "TensorrtExecutionProvider";

class FakeRuntime {
 public:
  FakeRuntime() {
    now_ = this;
    set_sessions();
    set_providers();
  }
  ~FakeRuntime() { now_ = nullptr; }
  FakeRuntime(const FakeRuntime&) = delete;
  FakeRuntime& operator=(const FakeRuntime&) = delete;

  Runtime get() { return {&base_, &api_, can_count ? &api_ : nullptr}; }
  const OrtApi& api() const { return api_; }

  std::vector<const char*> available = {kCpu};
  std::map<std::string, std::size_t> nodes;  // of every session, by provider
  std::string append_error;                  // why no GPU's provider can be appended
  std::string open_error;                    // why no session with one can be opened
  bool can_count = true;                     // whether it is new enough to tell what runs where
  std::string count_error;                   // why it cannot, all the same
  // What happened.
  std::vector<std::vector<std::string>> opened;  // providers of each session that was to be opened
  int n_alive = 0;                               // objects that nobody has released

 private:
  template <class T>
  static OrtStatus* make(T** made) {
    ++now_->n_alive;
    *made = new T();
    return nullptr;
  }
  template <class T>
  static void release(T* object) {
    if (object != nullptr) --now_->n_alive;
    delete object;
  }
  static OrtStatus* error(const std::string& message) {
    if (message.empty()) return nullptr;
    ++now_->n_alive;
    return new OrtStatus{ORT_FAIL, message};
  }
  template <class Options>
  static OrtStatus* append(OrtSessionOptions* options, const char* provider, const Options*) {
    options->providers.push_back(provider);
    return error(now_->append_error);
  }

  void set_sessions() {
    api_.GetErrorCode = [](const OrtStatus* status) { return status->code; };
    api_.GetErrorMessage = [](const OrtStatus* status) { return status->message.c_str(); };
    api_.ReleaseStatus = release<OrtStatus>;
    api_.CreateEnv = [](OrtLoggingLevel, const char*, OrtEnv** made) { return make(made); };
    api_.ReleaseEnv = release<OrtEnv>;
    api_.CreateCpuMemoryInfo = [](OrtAllocatorType, OrtMemType, OrtMemoryInfo** made) {
      return make(made);
    };
    api_.ReleaseMemoryInfo = release<OrtMemoryInfo>;
    api_.CreateSessionOptions = [](OrtSessionOptions** made) { return make(made); };
    api_.ReleaseSessionOptions = release<OrtSessionOptions>;
    api_.SetIntraOpNumThreads = [](OrtSessionOptions*, int) { return error(""); };
    api_.SetInterOpNumThreads = [](OrtSessionOptions*, int) { return error(""); };
    api_.SetSessionExecutionMode = [](OrtSessionOptions*, ExecutionMode) { return error(""); };
    api_.SetSessionLogSeverityLevel = [](OrtSessionOptions*, int) { return error(""); };
    api_.AddSessionConfigEntry = [](OrtSessionOptions*, const char*, const char*) {
      return error("");
    };
    api_.CreateSession = [](const OrtEnv*, const char*, const OrtSessionOptions* options,
                            OrtSession** made) {
      now_->opened.push_back(options->providers);
      if (!options->providers.empty() && !now_->open_error.empty()) return error(now_->open_error);
      return make(made);
    };
    api_.ReleaseSession = release<OrtSession>;
    const auto count_none = [](const OrtSession*, std::size_t* n) {
      *n = 0;
      return error("");
    };
    api_.SessionGetInputCount = count_none;
    api_.SessionGetOutputCount = count_none;
    api_.SessionGetOverridableInitializerCount = count_none;
  }

  void set_providers() {
    api_.GetAvailableProviders = [](char*** made, int* n) {
      *n = static_cast<int>(now_->available.size());
      *made = new char*[now_->available.size()];
      for (std::size_t i = 0; i < now_->available.size(); ++i) {
        (*made)[i] = ::strdup(now_->available[i]);
      }
      return error("");
    };
    api_.ReleaseAvailableProviders = [](char** names, int n) {
      for (int i = 0; i < n; ++i) std::free(names[i]);
      delete[] names;
      return error("");
    };
    api_.CreateCUDAProviderOptions = [](OrtCUDAProviderOptionsV2** made) { return make(made); };
    api_.ReleaseCUDAProviderOptions = release<OrtCUDAProviderOptionsV2>;
    api_.SessionOptionsAppendExecutionProvider_CUDA_V2 = [](OrtSessionOptions* options,
                                                            const OrtCUDAProviderOptionsV2* cuda) {
      return append(options, kCuda, cuda);
    };
    api_.CreateTensorRTProviderOptions = [](OrtTensorRTProviderOptionsV2** made) {
      return make(made);
    };
    api_.ReleaseTensorRTProviderOptions = release<OrtTensorRTProviderOptionsV2>;
    api_.SessionOptionsAppendExecutionProvider_TensorRT_V2 =
        [](OrtSessionOptions* options, const OrtTensorRTProviderOptionsV2* trt) {
          return append(options, kTensorRt, trt);
        };
    api_.Session_GetEpGraphAssignmentInfo =
        [](const OrtSession*, const OrtEpAssignedSubgraph* const** parts, std::size_t* n) {
          if (!now_->count_error.empty()) return error(now_->count_error);
          now_->fill_parts();
          *parts = now_->part_pointers_.data();
          *n = now_->part_pointers_.size();
          return error("");
        };
    api_.EpAssignedSubgraph_GetEpName = [](const OrtEpAssignedSubgraph* part, const char** name) {
      *name = part->provider.c_str();
      return error("");
    };
    api_.EpAssignedSubgraph_GetNodes = [](const OrtEpAssignedSubgraph* part,
                                          const OrtEpAssignedNode* const** made, std::size_t* n) {
      *made = part->nodes.data();
      *n = part->nodes.size();
      return error("");
    };
  }

  // Two parts for each provider: the second has one node.
  void fill_parts() {
    parts_.clear();
    part_pointers_.clear();
    for (const auto& [provider, n] : nodes) {
      parts_.push_back({provider, std::vector<const OrtEpAssignedNode*>(n - 1)});
      parts_.push_back({provider, std::vector<const OrtEpAssignedNode*>(1)});
    }
    for (const OrtEpAssignedSubgraph& part : parts_) part_pointers_.push_back(&part);
  }

  static inline FakeRuntime* now_ = nullptr;
  OrtApiBase base_{};
  OrtApi api_{};
  std::vector<OrtEpAssignedSubgraph> parts_;
  std::vector<const OrtEpAssignedSubgraph*> part_pointers_;
};

}  // namespace shortlist::engine
