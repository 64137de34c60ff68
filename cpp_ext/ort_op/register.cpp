// What ONNX Runtime looks for in the library: RegisterCustomOps, and the table of callbacks of
// ai.shortlist.TopN.
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "top_n_kernel.hpp"

namespace shortlist::ort_op {
namespace {

ONNXTensorElementDataType input_type(const OrtCustomOp* /*op*/, std::size_t number) {
  switch (number) {
    case TopNKernel::kQueries:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case TopNKernel::kIndex:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    default:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  }
}

OrtStatus* create_kernel(const OrtCustomOp* /*op*/, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
  return guarded(*api, [&] { *kernel = new TopNKernel(*api, info); });
}

OrtCustomOp make_top_n() {
  OrtCustomOp op = {};
  op.version = kApiVersion;
  op.GetName = [](const OrtCustomOp*) { return "TopN"; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
  op.GetInputType = input_type;
  op.GetInputTypeCount = [](const OrtCustomOp*) -> std::size_t { return TopNKernel::kNInputs; };
  op.GetOutputType = [](const OrtCustomOp*, std::size_t number) {
    return number == TopNKernel::kScores ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                         : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return TopNKernel::kNOutputs; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t number) {
    return number < TopNKernel::kExclude ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t number) {
    return number == TopNKernel::kRows ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    return static_cast<const TopNKernel*>(kernel)->run(context);
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<TopNKernel*>(kernel); };
  return op;
}

// One domain for each ONNX Runtime in the process (there may be two). Sessions use it as long as
// they live, so it is never released.
OrtCustomOpDomain* domain_for(const OrtApi& api) {
  static const OrtCustomOp top_n = make_top_n();
  static std::mutex mutex;
  static auto* const domains = new std::vector<std::pair<const OrtApi*, OrtCustomOpDomain*>>();
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [known, domain] : *domains) {
    if (known == &api) return domain;
  }
  OrtCustomOpDomain* domain = nullptr;
  check(api.CreateCustomOpDomain("ai.shortlist", &domain));
  domains->emplace_back(&api, domain);
  check(api.CustomOpDomain_Add(domain, &top_n));
  return domain;
}

}  // namespace
}  // namespace shortlist::ort_op

// The name and signature that OrtApi::RegisterCustomOpsLibrary_V2 asks for.
extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL
RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace shortlist::ort_op;
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    const std::string message = "ai.shortlist: this is ONNX Runtime " +
                                std::string(base->GetVersionString()) + ", expected 1." +
                                std::to_string(kApiVersion) + " or newer";
    return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, message.c_str());
  }
  return guarded(*api, [&] { check(api->AddCustomOpDomain(options, domain_for(*api))); });
}
