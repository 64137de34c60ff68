#include "engine/runtime.hpp"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "engine/errors.hpp"
#include "ort_op/register.hpp"

namespace shortlist::engine {
namespace {

constexpr const char* kSymbol = "OrtGetApiBase";
constexpr const char* kFix =
    "; install ONNX Runtime 1.17 or newer and give the path of its libonnxruntime.so in "
    "options.onnxruntime";

// A library of the process that is called libonnxruntime.so, with whatever behind it.
int remember_runtime(dl_phdr_info* info, std::size_t, void* found) {
  const std::string path = info->dlpi_name;
  if (path.compare(path.rfind('/') + 1, 17, "libonnxruntime.so") != 0) return 0;
  *static_cast<std::string*>(found) = path;
  return 1;
}

void* open_library(const char* name, int flags) {
  return ::dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | flags);
}

// Null if the library has no such function.
const OrtApiBase* base_of(void* library) {
  using GetBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetBase>(::dlsym(library, kSymbol));
  return get_base == nullptr ? nullptr : get_base();
}

// The ONNX Runtime that has registered the operators, if it lies in this library; else null.
const OrtApiBase* registered_in(void* library) {
  const OrtApiBase* base = ort_op::registered_runtime();
  Dl_info info;
  if (base == nullptr || ::dladdr(reinterpret_cast<const void*>(base->GetApi), &info) == 0) {
    return nullptr;
  }
  return open_library(info.dli_fname, RTLD_NOLOAD) == library ? base : nullptr;
}

const OrtApiBase* find_base(const char* path) {
  if (path != nullptr) {
    void* library = open_library(path, 0);
    if (library == nullptr) {
      throw RuntimeMissing("options.onnxruntime: expected a library that can be loaded, found " +
                           std::string(::dlerror()) + kFix);
    }
    if (const OrtApiBase* base = base_of(library)) return base;
    if (const OrtApiBase* base = registered_in(library)) return base;
    throw RuntimeMissing("options.onnxruntime: expected ONNX Runtime, found that " +
                         std::string(path) + " has no OrtGetApiBase" + kFix);
  }
  if (const OrtApiBase* base = base_of(RTLD_DEFAULT)) return base;
  if (const OrtApiBase* base = ort_op::registered_runtime()) return base;
  std::string loaded;
  ::dl_iterate_phdr(remember_runtime, &loaded);
  void* library = loaded.empty() ? nullptr : open_library(loaded.c_str(), RTLD_NOLOAD);
  for (const char* name : {"libonnxruntime.so.1", "libonnxruntime.so"}) {
    if (library == nullptr) library = open_library(name, 0);
  }
  const OrtApiBase* base = library == nullptr ? nullptr : base_of(library);
  if (base != nullptr) return base;
  throw RuntimeMissing(
      std::string("options.onnxruntime: got NULL, and there is no libonnxruntime.so in this "
                  "process or where the loader looks") +
      kFix);
}

// 32 of "1.32.0". A release that is asked for a newer API than it has writes to stderr.
unsigned long release_of(const char* version) {
  const char* dot = version == nullptr ? nullptr : std::strchr(version, '.');
  return dot == nullptr ? 0 : std::strtoul(dot + 1, nullptr, 10);
}

}  // namespace

Runtime find_runtime(const char* path) {
  Runtime runtime;
  runtime.base = find_base(path);
  runtime.api = runtime.base->GetApi(kApiVersion);
  const char* version = runtime.base->GetVersionString();
  if (runtime.api != nullptr) {
    if (release_of(version) >= kAssignmentApiVersion) {
      runtime.assignment_api = runtime.base->GetApi(kAssignmentApiVersion);
    }
    return runtime;
  }
  throw RuntimeMissing("options.onnxruntime: expected ONNX Runtime 1." +
                       std::to_string(kApiVersion) + " or newer, found " +
                       (version == nullptr ? "?" : version) + kFix);
}

void expect_ok(const OrtApi& api, OrtStatus* status, const std::string& where) {
  if (status == nullptr) return;
  const Handle<OrtStatus> owner(status, api.ReleaseStatus);
  const std::string message = where + ": " + api.GetErrorMessage(status);
  if (api.GetErrorCode(status) == ORT_INVALID_ARGUMENT) throw std::invalid_argument(message);
  throw std::runtime_error(message);
}

}  // namespace shortlist::engine
