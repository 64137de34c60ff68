// What ONNX Runtime looks for in the library: RegisterCustomOps, and the tables of callbacks of the
// operators.
#include "ort_op/register.hpp"

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "ort_op/pack_history_kernel.hpp"
#include "ort_op/rerank_dense_kernel.hpp"
#include "ort_op/rerank_followers_kernel.hpp"
#include "ort_op/top_n_kernel.hpp"
#include "src/system/forks.hpp"

namespace shortlist::ort_op {
namespace {

constexpr const char* kDomain = "ai.shortlist";

std::atomic<const OrtApiBase*> registered{nullptr};

ONNXTensorElementDataType top_n_input(std::size_t number) {
  switch (number) {
    case TopNKernel::kQueries:
    case TopNKernel::kFallbackScores:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case TopNKernel::kIndex:
    case TopNKernel::kAllowMask:
    case TopNKernel::kQuotas:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case TopNKernel::kGroups:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case TopNKernel::kDiversity:
    case TopNKernel::kDampening:
    case TopNKernel::kDampeningTerms:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    case TopNKernel::kUseFallback:
    case TopNKernel::kExcludeSeen:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    default:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  }
}

// What all our operators have in common: a kernel class with Input, Output, a constructor and run.
template <class Kernel>
OrtCustomOp make_op() {
  OrtCustomOp op = {};
  op.version = kApiVersion;
  op.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
  op.GetInputType = [](const OrtCustomOp*, std::size_t) {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  };
  op.GetInputTypeCount = [](const OrtCustomOp*) -> std::size_t { return Kernel::kNInputs; };
  op.GetOutputType = op.GetInputType;
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return Kernel::kNOutputs; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t number) {
    return number == 0 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = op.GetVariadicInputMinArity;
  op.GetVariadicOutputMinArity = op.GetVariadicInputMinArity;
  op.GetVariadicOutputHomogeneity = op.GetVariadicInputMinArity;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = op.GetStartVersion;
  op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
    return guarded(*api, [&] { *kernel = new Kernel(*api, info); });
  };
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    return static_cast<const Kernel*>(kernel)->run(context);
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  return op;
}

OrtCustomOp make_top_n() {
  OrtCustomOp op = make_op<TopNKernel>();
  op.GetName = [](const OrtCustomOp*) { return "TopN"; };
  op.GetInputType = [](const OrtCustomOp*, std::size_t number) { return top_n_input(number); };
  op.GetOutputType = [](const OrtCustomOp*, std::size_t number) {
    return number == TopNKernel::kScores ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                         : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  };
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t number) {
    return number < TopNKernel::kExclude ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  return op;
}

OrtCustomOp make_pack_history() {
  OrtCustomOp op = make_op<PackHistoryKernel>();
  op.GetName = [](const OrtCustomOp*) { return "PackHistory"; };
  return op;
}

template <class Kernel>
OrtCustomOp make_reranker() {
  OrtCustomOp op = make_op<Kernel>();
  op.GetInputType = [](const OrtCustomOp*, std::size_t number) {
    return Kernel::input_type(number);
  };
  op.GetOutputType = [](const OrtCustomOp*, std::size_t number) {
    return Kernel::output_type(number);
  };
  return op;
}

OrtCustomOp make_rerank_dense() {
  OrtCustomOp op = make_reranker<RerankDenseKernel>();
  op.GetName = [](const OrtCustomOp*) { return "RerankDense"; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t number) {
    return number < RerankDenseKernel::kFollowers ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  return op;
}

OrtCustomOp make_rerank_followers() {
  OrtCustomOp op = make_reranker<RerankFollowersKernel>();
  op.GetName = [](const OrtCustomOp*) { return "RerankFollowers"; };
  return op;
}

// All but TopN, which may have an index of its own.
void add_others(const OrtApi& api, OrtCustomOpDomain* domain) {
  static const OrtCustomOp ops[] = {make_pack_history(), make_rerank_dense(),
                                    make_rerank_followers()};
  for (const OrtCustomOp& op : ops) check(api.CustomOpDomain_Add(domain, &op));
}

// One domain for each ONNX Runtime in the process (there may be two). Sessions use it as long as
// they live, so it is never released.
OrtCustomOpDomain* domain_for(const OrtApi& api) {
  static const OrtCustomOp top_n = make_top_n();
  static const auto* const mutex = new ForkMutex();
  static auto* const domains = new std::vector<std::pair<const OrtApi*, OrtCustomOpDomain*>>();
  const auto lock = mutex->lock();
  for (const auto& [known, domain] : *domains) {
    if (known == &api) return domain;
  }
  OrtCustomOpDomain* domain = nullptr;
  check(api.CreateCustomOpDomain(kDomain, &domain));
  domains->emplace_back(&api, domain);
  check(api.CustomOpDomain_Add(domain, &top_n));
  add_others(api, domain);
  return domain;
}

OrtCustomOpDomain* make_domain(const OrtApi& api) {
  OrtCustomOpDomain* domain = nullptr;
  check(api.CreateCustomOpDomain(kDomain, &domain));
  return domain;
}

}  // namespace

IndexOperators::IndexTopN::IndexTopN(const IndexView& checked)
    : OrtCustomOp(make_top_n()), index(checked) {
  CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info,
                      void** kernel) {
    return guarded(*api, [&] {
      *kernel = new TopNKernel(*api, info, static_cast<const IndexTopN*>(op)->index);
    });
  };
}

IndexOperators::IndexOperators(const OrtApi& api, const IndexView& index)
    : api_(api), top_n_(index), domain_(make_domain(api), api.ReleaseCustomOpDomain) {
  check(api.CustomOpDomain_Add(domain_.get(), &top_n_));
  add_others(api, domain_.get());
}

OrtStatus* IndexOperators::add_to(OrtSessionOptions* options) const {
  return api_.AddCustomOpDomain(options, domain_.get());
}

const OrtApiBase* registered_runtime() {
  return registered.load();
}

}  // namespace shortlist::ort_op

// The name and signature that OrtApi::RegisterCustomOpsLibrary_V2 asks for.
extern "C" __attribute__((visibility("default"))) shortlist::ort::OrtStatus* RegisterCustomOps(
    shortlist::ort::OrtSessionOptions* options, const shortlist::ort::OrtApiBase* base) {
  using namespace shortlist::ort_op;
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    const std::string message = "ai.shortlist: this is ONNX Runtime " +
                                std::string(base->GetVersionString()) + ", expected 1." +
                                std::to_string(kApiVersion) + " or newer";
    return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, message.c_str());
  }
  registered = base;
  return guarded(*api, [&] { check(api->AddCustomOpDomain(options, domain_for(*api))); });
}
