// ONNX Runtime's C ABI, as far as it is used here: no header of ONNX Runtime is needed to compile.
//
// The ABI is two tables of functions, which grow at their ends only and keep every entry where it
// is: https://onnxruntime.ai/docs/api/c/struct_ort_api.html says what each function does. Names are
// the official ones. `unused_i_j` are the entries i to j of the table. check_abi.cpp compares all
// of this with the official header wherever the build finds one.
//
// Functions return null or a status that the caller releases. The caller also releases what comes
// back as `made`, with the Release function of its type; texts and arrays go back to the allocator
// they were made with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ort_op/onnxruntime_types.hpp"

namespace shortlist::ort {

// What the library's one function, OrtGetApiBase, returns.
struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};

// An operator, as a table of callbacks that stays in place as long as sessions use it.
struct OrtCustomOp {
  std::uint32_t version;  // kApiVersion: what follows GetEndVersion is not read
  void* unused_create_kernel;
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, std::size_t);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, std::size_t);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void* unused_kernel_compute;
  void (*KernelDestroy)(void* kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, std::size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*,
                               void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  void* unused_infer_output_shape;
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  void* unused_in_place[4];  // of version 18 and later; null
};

// OrtApi, the long table.
struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode, const char* message);
  OrtErrorCode (*GetErrorCode)(const OrtStatus*);
  const char* (*GetErrorMessage)(const OrtStatus*);
  OrtStatus* (*CreateEnv)(OrtLoggingLevel, const char* log_id, OrtEnv** made);
  void* unused_4;
  OrtStatus* (*EnableTelemetryEvents)(const OrtEnv*);
  OrtStatus* (*DisableTelemetryEvents)(const OrtEnv*);
  OrtStatus* (*CreateSession)(const OrtEnv*, const char* path, const OrtSessionOptions*,
                              OrtSession** made);
  OrtStatus* (*CreateSessionFromArray)(const OrtEnv*, const void* model, std::size_t n_bytes,
                                       const OrtSessionOptions*, OrtSession** made);
  OrtStatus* (*Run)(OrtSession*, const OrtRunOptions*, const char* const* input_names,
                    const OrtValue* const* inputs, std::size_t n_inputs,
                    const char* const* output_names, std::size_t n_outputs, OrtValue** outputs);
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions** made);
  void* unused_11_12[2];
  OrtStatus* (*SetSessionExecutionMode)(OrtSessionOptions*, ExecutionMode);
  void* unused_14_21[8];
  OrtStatus* (*SetSessionLogSeverityLevel)(OrtSessionOptions*, int level);
  OrtStatus* (*SetSessionGraphOptimizationLevel)(OrtSessionOptions*, GraphOptimizationLevel);
  OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions*, int n_threads);
  OrtStatus* (*SetInterOpNumThreads)(OrtSessionOptions*, int n_threads);
  OrtStatus* (*CreateCustomOpDomain)(const char* name, OrtCustomOpDomain** made);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain*, const OrtCustomOp*);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions*, OrtCustomOpDomain*);
  void* unused_29;
  OrtStatus* (*SessionGetInputCount)(const OrtSession*, std::size_t* n);
  OrtStatus* (*SessionGetOutputCount)(const OrtSession*, std::size_t* n);
  OrtStatus* (*SessionGetOverridableInitializerCount)(const OrtSession*, std::size_t* n);
  OrtStatus* (*SessionGetInputTypeInfo)(const OrtSession*, std::size_t, OrtTypeInfo** made);
  OrtStatus* (*SessionGetOutputTypeInfo)(const OrtSession*, std::size_t, OrtTypeInfo** made);
  OrtStatus* (*SessionGetOverridableInitializerTypeInfo)(const OrtSession*, std::size_t,
                                                         OrtTypeInfo** made);
  OrtStatus* (*SessionGetInputName)(const OrtSession*, std::size_t, OrtAllocator*, char** made);
  OrtStatus* (*SessionGetOutputName)(const OrtSession*, std::size_t, OrtAllocator*, char** made);
  OrtStatus* (*SessionGetOverridableInitializerName)(const OrtSession*, std::size_t, OrtAllocator*,
                                                     char** made);
  OrtStatus* (*CreateRunOptions)(OrtRunOptions** made);
  void* unused_40_45[6];
  OrtStatus* (*RunOptionsSetTerminate)(OrtRunOptions*);
  OrtStatus* (*RunOptionsUnsetTerminate)(OrtRunOptions*);
  OrtStatus* (*CreateTensorAsOrtValue)(OrtAllocator*, const std::int64_t* shape, std::size_t rank,
                                       ONNXTensorElementDataType, OrtValue** made);
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void* data,
                                               std::size_t n_bytes, const std::int64_t* shape,
                                               std::size_t rank, ONNXTensorElementDataType,
                                               OrtValue** made);
  OrtStatus* (*IsTensor)(const OrtValue*, int* is_tensor);
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void** data);
  OrtStatus* (*FillStringTensor)(OrtValue*, const char* const* texts, std::size_t n);
  OrtStatus* (*GetStringTensorDataLength)(const OrtValue*, std::size_t* n_bytes);
  OrtStatus* (*GetStringTensorContent)(const OrtValue*, void* bytes, std::size_t n_bytes,
                                       std::size_t* offsets, std::size_t n);
  OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo*,
                                         const OrtTensorTypeAndShapeInfo** part);
  void* unused_56_59[4];
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo*,
                                     ONNXTensorElementDataType* type);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, std::size_t* rank);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, std::int64_t* shape,
                              std::size_t rank);
  void* unused_63;
  OrtStatus* (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*, std::size_t* n);
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo** made);
  void* unused_66;
  OrtStatus* (*GetValueType)(const OrtValue*, ONNXType* type);
  OrtStatus* (*CreateMemoryInfo)(const char* name, OrtAllocatorType, int device, OrtMemType,
                                 OrtMemoryInfo** made);
  OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo** made);
  void* unused_70_75[6];
  OrtStatus* (*AllocatorFree)(OrtAllocator*, void* data);
  void* unused_77;
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator** shared);
  void* unused_79_84[6];
  OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo*, const char* name, float* value);
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo*, const char* name,
                                             std::int64_t* value);
  OrtStatus* (*KernelInfoGetAttribute_string)(const OrtKernelInfo*, const char* name, char* text,
                                              std::size_t* n_bytes);
  OrtStatus* (*KernelContext_GetInputCount)(const OrtKernelContext*, std::size_t* n);
  OrtStatus* (*KernelContext_GetOutputCount)(const OrtKernelContext*, std::size_t* n);
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext*, std::size_t,
                                       const OrtValue** input);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext*, std::size_t, const std::int64_t* shape,
                                        std::size_t rank, OrtValue** output);
  void (*ReleaseEnv)(OrtEnv*);
  void (*ReleaseStatus)(OrtStatus*);
  void (*ReleaseMemoryInfo)(OrtMemoryInfo*);
  void (*ReleaseSession)(OrtSession*);
  void (*ReleaseValue)(OrtValue*);
  void (*ReleaseRunOptions)(OrtRunOptions*);
  void (*ReleaseTypeInfo)(OrtTypeInfo*);
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
  void (*ReleaseSessionOptions)(OrtSessionOptions*);
  void (*ReleaseCustomOpDomain)(OrtCustomOpDomain*);
  void* unused_102_110[9];
  OrtStatus* (*SessionGetModelMetadata)(const OrtSession*, OrtModelMetadata** made);
  void* unused_112_115[4];
  OrtStatus* (*ModelMetadataLookupCustomMetadataMap)(const OrtModelMetadata*, OrtAllocator*,
                                                     const char* key, char** made);
  void* unused_117;
  void (*ReleaseModelMetadata)(OrtModelMetadata*);
  void* unused_119_124[6];
  OrtStatus* (*GetAvailableProviders)(char*** made, int* n);
  OrtStatus* (*ReleaseAvailableProviders)(char** names, int n);
  void* unused_127_129[3];
  OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions*, const char* key, const char* value);
  OrtStatus* (*CreateAllocator)(const OrtSession*, const OrtMemoryInfo*, OrtAllocator** made);
  void (*ReleaseAllocator)(OrtAllocator*);
  OrtStatus* (*RunWithBinding)(OrtSession*, const OrtRunOptions*, const OrtIoBinding*);
  OrtStatus* (*CreateIoBinding)(OrtSession*, OrtIoBinding** made);
  void (*ReleaseIoBinding)(OrtIoBinding*);
  OrtStatus* (*BindInput)(OrtIoBinding*, const char* name, const OrtValue*);
  OrtStatus* (*BindOutput)(OrtIoBinding*, const char* name, const OrtValue*);
  OrtStatus* (*BindOutputToDevice)(OrtIoBinding*, const char* name, const OrtMemoryInfo*);
  void* unused_139;
  OrtStatus* (*GetBoundOutputValues)(const OrtIoBinding*, OrtAllocator*, OrtValue*** made,
                                     std::size_t* n);
  void (*ClearBoundInputs)(OrtIoBinding*);
  void (*ClearBoundOutputs)(OrtIoBinding*);
  void* unused_143_164[22];
  OrtStatus* (*AddRunConfigEntry)(OrtRunOptions*, const char* key, const char* value);
  void* unused_166_169[4];
  OrtStatus* (*SessionOptionsAppendExecutionProvider_TensorRT_V2)(
      OrtSessionOptions*, const OrtTensorRTProviderOptionsV2*);
  OrtStatus* (*CreateTensorRTProviderOptions)(OrtTensorRTProviderOptionsV2** made);
  OrtStatus* (*UpdateTensorRTProviderOptions)(OrtTensorRTProviderOptionsV2*,
                                              const char* const* keys, const char* const* values,
                                              std::size_t n);
  void* unused_173;
  void (*ReleaseTensorRTProviderOptions)(OrtTensorRTProviderOptionsV2*);
  void* unused_175_201[27];
  OrtStatus* (*SynchronizeBoundInputs)(OrtIoBinding*);
  OrtStatus* (*SynchronizeBoundOutputs)(OrtIoBinding*);
  OrtStatus* (*SessionOptionsAppendExecutionProvider_CUDA_V2)(OrtSessionOptions*,
                                                              const OrtCUDAProviderOptionsV2*);
  OrtStatus* (*CreateCUDAProviderOptions)(OrtCUDAProviderOptionsV2** made);
  OrtStatus* (*UpdateCUDAProviderOptions)(OrtCUDAProviderOptionsV2*, const char* const* keys,
                                          const char* const* values, std::size_t n);
  void* unused_207;
  void (*ReleaseCUDAProviderOptions)(OrtCUDAProviderOptionsV2*);
  void* unused_209_229[21];
  OrtStatus* (*KernelInfo_GetInputCount)(const OrtKernelInfo*, std::size_t* n);
  OrtStatus* (*KernelInfo_GetOutputCount)(const OrtKernelInfo*, std::size_t* n);
  OrtStatus* (*KernelInfo_GetInputName)(const OrtKernelInfo*, std::size_t, char* text,
                                        std::size_t* n_bytes);
  OrtStatus* (*KernelInfo_GetOutputName)(const OrtKernelInfo*, std::size_t, char* text,
                                         std::size_t* n_bytes);
  void* unused_234_243[10];
  OrtStatus* (*KernelInfo_GetNodeName)(const OrtKernelInfo*, char* text, std::size_t* n_bytes);
  void* unused_245_248[4];
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo*, std::size_t,
                                                  int* is_constant, const OrtValue** input);
  void* unused_250_251[2];
  OrtStatus* (*GetResizedStringTensorElementBuffer)(OrtValue*, std::size_t, std::size_t n_bytes,
                                                    char** buffer);
  void* unused_253_273[21];
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext*,
                                          void (*call)(void* data, std::size_t task),
                                          std::size_t n_tasks, std::size_t n_batches, void* data);
  // From here on: kAssignmentApiVersion.
  void* unused_275_406[132];
  OrtStatus* (*Session_GetEpGraphAssignmentInfo)(const OrtSession*,
                                                 const OrtEpAssignedSubgraph* const** parts,
                                                 std::size_t* n);
  OrtStatus* (*EpAssignedSubgraph_GetEpName)(const OrtEpAssignedSubgraph*, const char** name);
  OrtStatus* (*EpAssignedSubgraph_GetNodes)(const OrtEpAssignedSubgraph*,
                                            const OrtEpAssignedNode* const** nodes, std::size_t* n);
};

}  // namespace shortlist::ort
