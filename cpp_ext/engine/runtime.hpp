// ONNX Runtime as the engine uses it (internal): found when the first engine is opened, never
// linked.
#pragma once

#include <memory>
#include <string>

#include "ort_op/onnxruntime_abi.hpp"

namespace shortlist::engine {

using namespace ort;

struct Runtime {
  const OrtApiBase* base = nullptr;
  const OrtApi* api = nullptr;
  const OrtApi* assignment_api = nullptr;  // kAssignmentApiVersion; null in older releases
};

// The library at `path`; with null the one that this process has loaded, or whose RegisterCustomOps
// this library has answered, else libonnxruntime.so.1 or libonnxruntime.so as the loader finds
// them. It is never unloaded. A path may also be that of Python's module, which exports nothing,
// once it has registered the operators. Throws RuntimeMissing.
[[gnu::visibility("default")]] Runtime find_runtime(const char* path);

// A handle of ONNX Runtime, released with the function given.
template <class T>
using Handle = std::unique_ptr<T, void (*)(T*)>;

// Throws what the status says, as `where`: std::invalid_argument for the caller's fault, else
// std::runtime_error.
void expect_ok(const OrtApi& api, OrtStatus* status, const std::string& where);

}  // namespace shortlist::engine
