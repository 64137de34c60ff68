// ONNX Runtime's C API as the op uses it: errors become exceptions here and OrtStatus at the edge.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ort_op/onnxruntime_abi.hpp"

namespace shortlist::ort_op {

using namespace ort;

// A status that ONNX Runtime returned; passed on to the host as it is.
struct Failure {
  OrtStatus* status;
};

inline void check(OrtStatus* status) {
  if (status != nullptr) throw Failure{status};
}

// Runs `call` and turns what it throws into a status; nullptr = fine. Nothing gets past it.
template <class Call>
OrtStatus* guarded(const OrtApi& api, const Call& call) noexcept;

// A tensor that ONNX Runtime owns, for the length of one call.
struct Tensor {
  const void* data = nullptr;
  std::vector<std::int64_t> shape;
  std::size_t size = 1;  // numbers in it

  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

Tensor read_tensor(const OrtApi& api, const OrtValue* value);
// Input `number` of the running node; false if it is left out.
bool read_input(const OrtApi& api, const OrtKernelContext* context, std::size_t number,
                Tensor* tensor);
// Memory for output `number`; nullptr if nobody wants it.
void* make_output(const OrtApi& api, OrtKernelContext* context, std::size_t number,
                  const std::vector<std::int64_t>& shape);
// A text attribute, or "" if the node has none of this name.
std::string text_attribute(const OrtApi& api, const OrtKernelInfo* info, const char* name);
std::string to_text(const std::vector<std::int64_t>& shape);

// The message of the exception in flight, as a status. @pre called inside a catch block
OrtStatus* current_exception(const OrtApi& api) noexcept;

template <class Call>
OrtStatus* guarded(const OrtApi& api, const Call& call) noexcept {
  try {
    call();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (...) {
    return current_exception(api);
  }
}

}  // namespace shortlist::ort_op
