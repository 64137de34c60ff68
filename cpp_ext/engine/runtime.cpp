#include "runtime.hpp"

#include <dlfcn.h>
#include <link.h>

#include <stdexcept>

#include "errors.hpp"

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

void* find_symbol(const char* path) {
  if (path != nullptr) {
    void* library = open_library(path, 0);
    if (library == nullptr) {
      throw RuntimeMissing("options.onnxruntime: expected a library that can be loaded, found " +
                           std::string(::dlerror()) + kFix);
    }
    if (void* symbol = ::dlsym(library, kSymbol)) return symbol;
    throw RuntimeMissing("options.onnxruntime: expected ONNX Runtime, found that " +
                         std::string(path) + " has no OrtGetApiBase" + kFix);
  }
  if (void* symbol = ::dlsym(RTLD_DEFAULT, kSymbol)) return symbol;
  std::string loaded;
  ::dl_iterate_phdr(remember_runtime, &loaded);
  void* library = loaded.empty() ? nullptr : open_library(loaded.c_str(), RTLD_NOLOAD);
  for (const char* name : {"libonnxruntime.so.1", "libonnxruntime.so"}) {
    if (library == nullptr) library = open_library(name, 0);
  }
  void* symbol = library == nullptr ? nullptr : ::dlsym(library, kSymbol);
  if (symbol != nullptr) return symbol;
  throw RuntimeMissing(
      std::string("options.onnxruntime: got NULL, and there is no libonnxruntime.so in this "
                  "process or where the loader looks") +
      kFix);
}

}  // namespace

Runtime find_runtime(const char* path) {
  using GetBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetBase>(find_symbol(path));
  Runtime runtime;
  runtime.base = get_base();
  if (runtime.base != nullptr) runtime.api = runtime.base->GetApi(kApiVersion);
  if (runtime.api != nullptr) return runtime;
  const char* version = runtime.base == nullptr ? "?" : runtime.base->GetVersionString();
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
