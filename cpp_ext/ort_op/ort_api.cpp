#include "ort_op/ort_api.hpp"

#include <memory>
#include <new>
#include <stdexcept>

#include "shortlist/file_error.hpp"

namespace shortlist::ort_op {

Tensor read_tensor(const OrtApi& api, const OrtValue* value) {
  Tensor tensor;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api.GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owner(
      info, api.ReleaseTensorTypeAndShapeInfo);
  std::size_t rank = 0;
  check(api.GetDimensionsCount(info, &rank));
  tensor.shape.resize(rank);
  check(api.GetDimensions(info, tensor.shape.data(), rank));
  check(api.GetTensorShapeElementCount(info, &tensor.size));
  void* data = nullptr;  // the one call for tensor data takes a mutable value; it only reads
  check(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  tensor.data = data;
  return tensor;
}

bool read_input(const OrtApi& api, const OrtKernelContext* context, std::size_t number,
                Tensor* tensor) {
  std::size_t n_inputs = 0;
  check(api.KernelContext_GetInputCount(context, &n_inputs));
  const OrtValue* value = nullptr;
  if (number < n_inputs) check(api.KernelContext_GetInput(context, number, &value));
  if (value == nullptr) return false;
  *tensor = read_tensor(api, value);
  return true;
}

void* make_output(const OrtApi& api, OrtKernelContext* context, std::size_t number,
                  const std::vector<std::int64_t>& shape) {
  std::size_t n_outputs = 0;
  check(api.KernelContext_GetOutputCount(context, &n_outputs));
  OrtValue* value = nullptr;
  if (number < n_outputs) {
    check(api.KernelContext_GetOutput(context, number, shape.data(), shape.size(), &value));
  }
  void* data = nullptr;
  if (value != nullptr) check(api.GetTensorMutableData(value, &data));
  return data;
}

std::string text_attribute(const OrtApi& api, const OrtKernelInfo* info, const char* name) {
  std::size_t size = 0;
  if (OrtStatus* missing = api.KernelInfoGetAttribute_string(info, name, nullptr, &size)) {
    api.ReleaseStatus(missing);
    return {};
  }
  std::string text(size, '\0');
  check(api.KernelInfoGetAttribute_string(info, name, text.data(), &size));
  text.resize(size > 0 ? size - 1 : 0);  // the size counts the final NUL
  return text;
}

std::string to_text(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + ")";
}

OrtStatus* current_exception(const OrtApi& api) noexcept {
  try {
    throw;
  } catch (const std::invalid_argument& error) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const FileError& error) {
    return api.CreateStatus(ORT_INVALID_GRAPH, error.what());
  } catch (const std::bad_alloc&) {
    return api.CreateStatus(ORT_RUNTIME_EXCEPTION, "ai.shortlist: out of memory");
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_RUNTIME_EXCEPTION, error.what());
  } catch (...) {
    return api.CreateStatus(ORT_RUNTIME_EXCEPTION, "ai.shortlist: an unknown error");
  }
}

}  // namespace shortlist::ort_op
