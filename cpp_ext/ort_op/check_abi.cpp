// Compares onnxruntime_abi.hpp with the official header: places, types of functions, constants.
// Nothing is left of it at run time. The build compiles it where it finds onnxruntime_c_api.h.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <type_traits>

#include "ort_op/onnxruntime_abi.hpp"

// The official entries say that their results must be used; templates drop that.
#pragma GCC diagnostic ignored "-Wignored-attributes"

// Nothing to compare with in headers that are older than what is asked for.
#if ORT_API_VERSION >= 17
namespace {

namespace ort = shortlist::ort;

// A type of ours with the official names in it.
template <class T>
struct Official {
  using type = T;
};
template <class T>
struct Official<const T> {
  using type = const typename Official<T>::type;
};
template <class T>
struct Official<T*> {
  using type = typename Official<T>::type*;
};
template <class R, class... Arguments>
struct Official<R(Arguments...)> {
  using type = typename Official<R>::type(typename Official<Arguments>::type...);
};

// An official entry, which may promise not to throw.
template <class T>
struct Entry;
template <class R, class... Arguments>
struct Entry<R (*)(Arguments...)> {
  using type = R (*)(Arguments...);
};
template <class R, class... Arguments>
struct Entry<R (*)(Arguments...) noexcept> : Entry<R (*)(Arguments...)> {};

template <class Ours, class Theirs>
constexpr bool is_same_call =
    std::is_same_v<typename Official<Ours>::type, typename Entry<Theirs>::type>;

// Macros: names are pasted and looked up on both sides.
#define CHECK_ENTRY(Table, name)                                      \
  static_assert(offsetof(ort::Table, name) == offsetof(Table, name)); \
  static_assert(is_same_call<decltype(ort::Table::name), decltype(Table::name)>)
#define CHECK_VALUE(name) static_assert(int{ort::name} == static_cast<int>(name))
#define SAME_TYPE(name)        \
  template <>                  \
  struct Official<ort::name> { \
    using type = ::name;       \
  }
#define SAME_ENUM(name) \
  SAME_TYPE(name);      \
  static_assert(sizeof(ort::name) == sizeof(name))

SAME_TYPE(OrtAllocator);
SAME_TYPE(OrtApi);
SAME_TYPE(OrtCUDAProviderOptionsV2);
SAME_TYPE(OrtCustomOp);
SAME_TYPE(OrtCustomOpDomain);
SAME_TYPE(OrtEnv);
SAME_TYPE(OrtIoBinding);
SAME_TYPE(OrtKernelContext);
SAME_TYPE(OrtKernelInfo);
SAME_TYPE(OrtMemoryInfo);
SAME_TYPE(OrtModelMetadata);
SAME_TYPE(OrtRunOptions);
SAME_TYPE(OrtSession);
SAME_TYPE(OrtSessionOptions);
SAME_TYPE(OrtStatus);
SAME_TYPE(OrtTensorRTProviderOptionsV2);
SAME_TYPE(OrtTensorTypeAndShapeInfo);
SAME_TYPE(OrtTypeInfo);
SAME_TYPE(OrtValue);
SAME_ENUM(ONNXTensorElementDataType);
SAME_ENUM(ONNXType);
SAME_ENUM(OrtErrorCode);
SAME_ENUM(OrtLoggingLevel);
SAME_ENUM(GraphOptimizationLevel);
SAME_ENUM(ExecutionMode);
SAME_ENUM(OrtAllocatorType);
SAME_ENUM(OrtMemType);
SAME_ENUM(OrtCustomOpInputOutputCharacteristic);

CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE);
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16);
CHECK_VALUE(ONNX_TYPE_UNKNOWN);
CHECK_VALUE(ONNX_TYPE_TENSOR);
CHECK_VALUE(ORT_OK);
CHECK_VALUE(ORT_FAIL);
CHECK_VALUE(ORT_INVALID_ARGUMENT);
CHECK_VALUE(ORT_NO_SUCHFILE);
CHECK_VALUE(ORT_RUNTIME_EXCEPTION);
CHECK_VALUE(ORT_INVALID_PROTOBUF);
CHECK_VALUE(ORT_NOT_IMPLEMENTED);
CHECK_VALUE(ORT_INVALID_GRAPH);
CHECK_VALUE(ORT_EP_FAIL);
CHECK_VALUE(ORT_LOGGING_LEVEL_WARNING);
CHECK_VALUE(ORT_LOGGING_LEVEL_ERROR);
CHECK_VALUE(ORT_LOGGING_LEVEL_FATAL);
CHECK_VALUE(ORT_DISABLE_ALL);
CHECK_VALUE(ORT_ENABLE_BASIC);
CHECK_VALUE(ORT_ENABLE_EXTENDED);
CHECK_VALUE(ORT_ENABLE_ALL);
CHECK_VALUE(ORT_SEQUENTIAL);
CHECK_VALUE(ORT_PARALLEL);
CHECK_VALUE(OrtDeviceAllocator);
CHECK_VALUE(OrtArenaAllocator);
CHECK_VALUE(OrtMemTypeCPUInput);
CHECK_VALUE(OrtMemTypeCPUOutput);
CHECK_VALUE(OrtMemTypeDefault);
CHECK_VALUE(INPUT_OUTPUT_REQUIRED);
CHECK_VALUE(INPUT_OUTPUT_OPTIONAL);
CHECK_VALUE(INPUT_OUTPUT_VARIADIC);

CHECK_ENTRY(OrtApiBase, GetApi);
CHECK_ENTRY(OrtApiBase, GetVersionString);

CHECK_ENTRY(OrtCustomOp, GetName);
CHECK_ENTRY(OrtCustomOp, GetExecutionProviderType);
CHECK_ENTRY(OrtCustomOp, GetInputType);
CHECK_ENTRY(OrtCustomOp, GetInputTypeCount);
CHECK_ENTRY(OrtCustomOp, GetOutputType);
CHECK_ENTRY(OrtCustomOp, GetOutputTypeCount);
CHECK_ENTRY(OrtCustomOp, KernelDestroy);
CHECK_ENTRY(OrtCustomOp, GetInputCharacteristic);
CHECK_ENTRY(OrtCustomOp, GetOutputCharacteristic);
CHECK_ENTRY(OrtCustomOp, GetInputMemoryType);
CHECK_ENTRY(OrtCustomOp, GetVariadicInputMinArity);
CHECK_ENTRY(OrtCustomOp, GetVariadicInputHomogeneity);
CHECK_ENTRY(OrtCustomOp, GetVariadicOutputMinArity);
CHECK_ENTRY(OrtCustomOp, GetVariadicOutputHomogeneity);
CHECK_ENTRY(OrtCustomOp, CreateKernelV2);
CHECK_ENTRY(OrtCustomOp, KernelComputeV2);
CHECK_ENTRY(OrtCustomOp, GetStartVersion);
CHECK_ENTRY(OrtCustomOp, GetEndVersion);

CHECK_ENTRY(OrtApi, CreateStatus);
CHECK_ENTRY(OrtApi, GetErrorCode);
CHECK_ENTRY(OrtApi, GetErrorMessage);
CHECK_ENTRY(OrtApi, CreateEnv);
CHECK_ENTRY(OrtApi, EnableTelemetryEvents);
CHECK_ENTRY(OrtApi, DisableTelemetryEvents);
CHECK_ENTRY(OrtApi, CreateSession);
CHECK_ENTRY(OrtApi, CreateSessionFromArray);
CHECK_ENTRY(OrtApi, Run);
CHECK_ENTRY(OrtApi, CreateSessionOptions);
CHECK_ENTRY(OrtApi, SetSessionExecutionMode);
CHECK_ENTRY(OrtApi, SetSessionLogSeverityLevel);
CHECK_ENTRY(OrtApi, SetSessionGraphOptimizationLevel);
CHECK_ENTRY(OrtApi, SetIntraOpNumThreads);
CHECK_ENTRY(OrtApi, SetInterOpNumThreads);
CHECK_ENTRY(OrtApi, CreateCustomOpDomain);
CHECK_ENTRY(OrtApi, CustomOpDomain_Add);
CHECK_ENTRY(OrtApi, AddCustomOpDomain);
CHECK_ENTRY(OrtApi, SessionGetInputCount);
CHECK_ENTRY(OrtApi, SessionGetOutputCount);
CHECK_ENTRY(OrtApi, SessionGetOverridableInitializerCount);
CHECK_ENTRY(OrtApi, SessionGetInputTypeInfo);
CHECK_ENTRY(OrtApi, SessionGetOutputTypeInfo);
CHECK_ENTRY(OrtApi, SessionGetOverridableInitializerTypeInfo);
CHECK_ENTRY(OrtApi, SessionGetInputName);
CHECK_ENTRY(OrtApi, SessionGetOutputName);
CHECK_ENTRY(OrtApi, SessionGetOverridableInitializerName);
CHECK_ENTRY(OrtApi, CreateRunOptions);
CHECK_ENTRY(OrtApi, RunOptionsSetTerminate);
CHECK_ENTRY(OrtApi, RunOptionsUnsetTerminate);
CHECK_ENTRY(OrtApi, CreateTensorAsOrtValue);
CHECK_ENTRY(OrtApi, CreateTensorWithDataAsOrtValue);
CHECK_ENTRY(OrtApi, IsTensor);
CHECK_ENTRY(OrtApi, GetTensorMutableData);
CHECK_ENTRY(OrtApi, FillStringTensor);
CHECK_ENTRY(OrtApi, GetStringTensorDataLength);
CHECK_ENTRY(OrtApi, GetStringTensorContent);
CHECK_ENTRY(OrtApi, CastTypeInfoToTensorInfo);
CHECK_ENTRY(OrtApi, GetTensorElementType);
CHECK_ENTRY(OrtApi, GetDimensionsCount);
CHECK_ENTRY(OrtApi, GetDimensions);
CHECK_ENTRY(OrtApi, GetTensorShapeElementCount);
CHECK_ENTRY(OrtApi, GetTensorTypeAndShape);
CHECK_ENTRY(OrtApi, GetValueType);
CHECK_ENTRY(OrtApi, CreateMemoryInfo);
CHECK_ENTRY(OrtApi, CreateCpuMemoryInfo);
CHECK_ENTRY(OrtApi, AllocatorFree);
CHECK_ENTRY(OrtApi, GetAllocatorWithDefaultOptions);
CHECK_ENTRY(OrtApi, KernelInfoGetAttribute_float);
CHECK_ENTRY(OrtApi, KernelInfoGetAttribute_int64);
CHECK_ENTRY(OrtApi, KernelInfoGetAttribute_string);
CHECK_ENTRY(OrtApi, KernelContext_GetInputCount);
CHECK_ENTRY(OrtApi, KernelContext_GetOutputCount);
CHECK_ENTRY(OrtApi, KernelContext_GetInput);
CHECK_ENTRY(OrtApi, KernelContext_GetOutput);
CHECK_ENTRY(OrtApi, ReleaseEnv);
CHECK_ENTRY(OrtApi, ReleaseStatus);
CHECK_ENTRY(OrtApi, ReleaseMemoryInfo);
CHECK_ENTRY(OrtApi, ReleaseSession);
CHECK_ENTRY(OrtApi, ReleaseValue);
CHECK_ENTRY(OrtApi, ReleaseRunOptions);
CHECK_ENTRY(OrtApi, ReleaseTypeInfo);
CHECK_ENTRY(OrtApi, ReleaseTensorTypeAndShapeInfo);
CHECK_ENTRY(OrtApi, ReleaseSessionOptions);
CHECK_ENTRY(OrtApi, ReleaseCustomOpDomain);
CHECK_ENTRY(OrtApi, SessionGetModelMetadata);
CHECK_ENTRY(OrtApi, ModelMetadataLookupCustomMetadataMap);
CHECK_ENTRY(OrtApi, ReleaseModelMetadata);
CHECK_ENTRY(OrtApi, GetAvailableProviders);
CHECK_ENTRY(OrtApi, ReleaseAvailableProviders);
CHECK_ENTRY(OrtApi, AddSessionConfigEntry);
CHECK_ENTRY(OrtApi, CreateAllocator);
CHECK_ENTRY(OrtApi, ReleaseAllocator);
CHECK_ENTRY(OrtApi, RunWithBinding);
CHECK_ENTRY(OrtApi, CreateIoBinding);
CHECK_ENTRY(OrtApi, ReleaseIoBinding);
CHECK_ENTRY(OrtApi, BindInput);
CHECK_ENTRY(OrtApi, BindOutput);
CHECK_ENTRY(OrtApi, BindOutputToDevice);
CHECK_ENTRY(OrtApi, GetBoundOutputValues);
CHECK_ENTRY(OrtApi, ClearBoundInputs);
CHECK_ENTRY(OrtApi, ClearBoundOutputs);
CHECK_ENTRY(OrtApi, AddRunConfigEntry);
CHECK_ENTRY(OrtApi, SessionOptionsAppendExecutionProvider_TensorRT_V2);
CHECK_ENTRY(OrtApi, CreateTensorRTProviderOptions);
CHECK_ENTRY(OrtApi, UpdateTensorRTProviderOptions);
CHECK_ENTRY(OrtApi, ReleaseTensorRTProviderOptions);
CHECK_ENTRY(OrtApi, SynchronizeBoundInputs);
CHECK_ENTRY(OrtApi, SynchronizeBoundOutputs);
CHECK_ENTRY(OrtApi, SessionOptionsAppendExecutionProvider_CUDA_V2);
CHECK_ENTRY(OrtApi, CreateCUDAProviderOptions);
CHECK_ENTRY(OrtApi, UpdateCUDAProviderOptions);
CHECK_ENTRY(OrtApi, ReleaseCUDAProviderOptions);
CHECK_ENTRY(OrtApi, KernelInfo_GetInputCount);
CHECK_ENTRY(OrtApi, KernelInfo_GetOutputCount);
CHECK_ENTRY(OrtApi, KernelInfo_GetInputName);
CHECK_ENTRY(OrtApi, KernelInfo_GetOutputName);
CHECK_ENTRY(OrtApi, KernelInfo_GetNodeName);
CHECK_ENTRY(OrtApi, KernelInfoGetConstantInput_tensor);
CHECK_ENTRY(OrtApi, GetResizedStringTensorElementBuffer);
CHECK_ENTRY(OrtApi, KernelContext_ParallelFor);

#if ORT_API_VERSION >= 24
SAME_TYPE(OrtEpAssignedNode);
SAME_TYPE(OrtEpAssignedSubgraph);
CHECK_ENTRY(OrtApi, Session_GetEpGraphAssignmentInfo);
CHECK_ENTRY(OrtApi, EpAssignedSubgraph_GetEpName);
CHECK_ENTRY(OrtApi, EpAssignedSubgraph_GetNodes);
#endif

}  // namespace
#endif
