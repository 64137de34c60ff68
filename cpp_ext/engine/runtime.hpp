// ONNX Runtime as the engine uses it (internal): found when the first engine is opened, never
// linked.
#pragma once

#include <memory>
#include <string>

#include "onnxruntime_abi.hpp"

namespace shortlist::engine {

using namespace ort;

struct Runtime {
  const OrtApiBase* base = nullptr;
  const OrtApi* api = nullptr;
};

// The library at `path`; with null the one that this process has loaded, else libonnxruntime.so.1
// or libonnxruntime.so as the loader finds them. It is never unloaded. Throws RuntimeMissing.
Runtime find_runtime(const char* path);

// A handle of ONNX Runtime, released with the function given.
template <class T>
using Handle = std::unique_ptr<T, void (*)(T*)>;

// Throws what the status says, as `where`: std::invalid_argument for the caller's fault, else
// std::runtime_error.
void expect_ok(const OrtApi& api, OrtStatus* status, const std::string& where);

}  // namespace shortlist::engine
