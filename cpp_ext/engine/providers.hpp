// ONNX Runtime's execution providers: which of them a device means, and what really runs
// (internal).
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "engine/runtime.hpp"

namespace shortlist::engine {

constexpr const char* kCpuProvider = "CPUExecutionProvider";

using NodeCounts = std::map<std::string, std::size_t>;

// Throws std::invalid_argument for a device that is not one of auto, cpu, cuda, tensorrt.
void check_device(const std::string& device);

class Providers {
 public:
  // `graph` is how messages name what is to run. Throws DeviceMissing where this ONNX Runtime has
  // no provider for the device.
  Providers(const OrtApi& api, const std::string& device, const std::string& graph);

  // Whether any of them is not the CPU's.
  bool has_device() const { return chosen_.size() > 1; }
  // Throws DeviceMissing where a provider's libraries are missing.
  void add_to(OrtSessionOptions* options) const;
  // The provider that runs most of the nodes. Throws DeviceMissing where cuda or tensorrt was asked
  // for and runs none. Without counts the provider is the first chosen one.
  std::string check_runs(const NodeCounts& nodes) const;

 private:
  [[noreturn]] void throw_not_running(const std::string& running, const std::string& why) const;

  const OrtApi& api_;
  std::string device_, graph_;
  std::vector<std::string> chosen_;  // best first, the CPU's last
};

// How many nodes of an open session's graph each provider runs; empty where ONNX Runtime cannot
// tell.
NodeCounts count_nodes(const Runtime& runtime, const OrtSession* session);

}  // namespace shortlist::engine
