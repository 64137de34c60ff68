#include "graph.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "shortlist/thread_pool.hpp"

namespace shortlist::engine {
namespace {

constexpr const char* kFilters[] = {"exclude", "exclude_splits", "allow", "allow_splits",
                                    "allow_mask"};

template <std::size_t kSize>
bool is_one_of(const std::string& name, const char* const (&names)[kSize]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Reads name, type and shape of an input or output.
using GetName = decltype(OrtApi::SessionGetInputName);
using GetInfo = decltype(OrtApi::SessionGetInputTypeInfo);
Input read_port(const OrtApi& api, const OrtSession* session, std::size_t i, GetName get_name,
                GetInfo get_info) {
  Input port;
  OrtAllocator* memory = nullptr;
  expect_ok(api, api.GetAllocatorWithDefaultOptions(&memory), "memory");
  char* name = nullptr;
  expect_ok(api, get_name(session, i, memory, &name), "name");
  port.name = name;
  expect_ok(api, api.AllocatorFree(memory, name), "memory");
  OrtTypeInfo* info = nullptr;
  expect_ok(api, get_info(session, i, &info), port.name);
  const Handle<OrtTypeInfo> owner(info, api.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  expect_ok(api, api.CastTypeInfoToTensorInfo(info, &tensor), port.name);
  if (tensor == nullptr) return port;  // no tensor: its type stays undefined
  expect_ok(api, api.GetTensorElementType(tensor, &port.type), port.name);
  std::size_t rank = 0;
  expect_ok(api, api.GetDimensionsCount(tensor, &rank), port.name);
  port.shape.resize(rank);
  expect_ok(api, api.GetDimensions(tensor, port.shape.data(), rank), port.name);
  return port;
}

// Inputs that may be left out are initializers that a run may override.
std::size_t count_filters(const OrtApi& api, const OrtSession* session) {
  std::size_t n = 0, n_filters = 0;
  expect_ok(api, api.SessionGetOverridableInitializerCount(session, &n), "inputs");
  for (std::size_t i = 0; i < n; ++i) {
    const Input input = read_port(api, session, i, api.SessionGetOverridableInitializerName,
                                  api.SessionGetOverridableInitializerTypeInfo);
    n_filters += is_one_of(input.name, kFilters);
  }
  return n_filters;
}

// One value a request, or a list of any length; only vectors, of numbers, have a length of their
// own.
bool is_column(const Input& input) {
  const bool is_typed = input.type == kNumber || input.type == kFloat || input.type == kText;
  const std::size_t rank = input.shape.size();
  const bool is_vector = input.type == kFloat && !is_history(input);
  return is_typed && (rank == 1 || (rank == 2 && (input.shape[1] < 0 || is_vector))) &&
         (rank == 1 || input.shape[1] != 0);
}

Handle<OrtEnv> make_environment(const OrtApi& api) {
  OrtEnv* environment = nullptr;
  expect_ok(api, api.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "shortlist", &environment), "ONNX Runtime");
  return {environment, api.ReleaseEnv};
}

Handle<OrtMemoryInfo> make_memory_info(const OrtApi& api) {
  OrtMemoryInfo* info = nullptr;
  expect_ok(api, api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info), "memory");
  return {info, api.ReleaseMemoryInfo};
}

std::unique_ptr<const ort_op::IndexOperators> make_operators(const OrtApi& api,
                                                             const std::string& name,
                                                             const IndexView& index) {
  try {
    return std::make_unique<const ort_op::IndexOperators>(api, index);
  } catch (const ort_op::Failure& failure) {
    expect_ok(api, failure.status, name);
    throw std::runtime_error(name);
  }
}

}  // namespace

void Feeds::add(const char* name, Handle<OrtValue> value) {
  names_.push_back(name);
  values_.push_back(value.get());
  owners_.push_back(std::move(value));
}

std::vector<std::int64_t>& Feeds::keep(std::vector<std::int64_t> numbers) {
  kept_.push_back(std::make_unique<std::vector<std::int64_t>>(std::move(numbers)));
  return *kept_.back();
}

Graph::Graph(const Runtime& runtime, const std::string& path, const std::string& name,
             const IndexView& index, std::size_t n_threads)
    : api_(*runtime.api),
      name_(name),
      environment_(make_environment(api_)),
      memory_(make_memory_info(api_)),
      operators_(make_operators(api_, name, index)),
      session_(nullptr, api_.ReleaseSession) {
  open_session(path, n_threads);
  read_interface();
}

// ONNX Runtime looks for graphs.data and items.index beside the graph.
void Graph::open_session(const std::string& path, std::size_t n_threads) {
  OrtSessionOptions* made = nullptr;
  expect(api_.CreateSessionOptions(&made));
  const Handle<OrtSessionOptions> options(made, api_.ReleaseSessionOptions);
  const int n = static_cast<int>(n_threads == 0 ? num_threads() : n_threads);
  expect(api_.SetIntraOpNumThreads(made, n));
  expect(api_.SetInterOpNumThreads(made, 1));
  expect(api_.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_FATAL));
  // On shared cores spinning costs more than it saves.
  expect(api_.AddSessionConfigEntry(made, "session.intra_op.allow_spinning", "0"));
  expect(operators_->add_to(made));
  OrtSession* session = nullptr;
  expect(api_.CreateSession(environment_.get(), path.c_str(), made, &session));
  session_.reset(session);
}

void Graph::read_interface() {
  std::size_t n_inputs = 0, n_outputs = 0, n_fit = 0;
  expect(api_.SessionGetInputCount(session_.get(), &n_inputs));
  expect(api_.SessionGetOutputCount(session_.get(), &n_outputs));
  bool has_top_n = false, are_columns = true;
  auto history_type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  for (std::size_t i = 0; i < n_inputs; ++i) {
    Input input =
        read_port(api_, session_.get(), i, api_.SessionGetInputName, api_.SessionGetInputTypeInfo);
    if (input.name == "top_n") {
      has_top_n = input.type == kNumber;
      continue;
    }
    if (input.name == "history" && input.shape.size() == 2) history_type = input.type;
    are_columns = are_columns && is_column(input);
    inputs_.push_back(std::move(input));
  }
  for (std::size_t i = 0; i < n_outputs; ++i) {
    const Input output = read_port(api_, session_.get(), i, api_.SessionGetOutputName,
                                   api_.SessionGetOutputTypeInfo);
    const bool are_ids = output.name == "item_ids";
    if (are_ids) has_texts_ = output.type == kText;
    const auto wanted = output.name == "scores" ? kFloat : are_ids && has_texts_ ? kText : kNumber;
    n_fit += is_one_of(output.name, kOutputs) && output.type == wanted;
  }
  has_filters_ = count_filters(api_, session_.get()) == std::size(kFilters);
  const bool has_history = history_type == (has_texts_ ? kText : kNumber);
  if (has_top_n && has_history && are_columns && n_fit == std::size(kOutputs)) return;
  throw std::runtime_error("other inputs and outputs than those of docs/plugin.md");
}

Handle<OrtValue> Graph::over(const void* data, std::size_t n, std::size_t width,
                             ONNXTensorElementDataType type) const {
  static const std::int64_t kNothing = 0;  // ONNX Runtime wants an address even of no numbers
  const std::int64_t shape[] = {static_cast<std::int64_t>(n), static_cast<std::int64_t>(width)};
  const std::size_t element = type == kNumber  ? sizeof(std::int64_t)
                              : type == kFloat ? sizeof(float)
                                               : sizeof(std::uint8_t);
  OrtValue* value = nullptr;
  // The one call for inputs and outputs takes a mutable address; inputs are only read.
  void* const place = const_cast<void*>(data == nullptr ? &kNothing : data);
  expect(api_.CreateTensorWithDataAsOrtValue(memory_.get(), place,
                                             n * std::max<std::size_t>(1, width) * element, shape,
                                             width == 0 ? 1 : 2, type, &value));
  return {value, api_.ReleaseValue};
}

void Graph::run(const Feeds& feeds, std::vector<Handle<OrtValue>>* outputs) const {
  std::vector<OrtValue*> found;
  for (const Handle<OrtValue>& output : *outputs) found.push_back(output.get());
  OrtStatus* status = api_.Run(session_.get(), nullptr, feeds.names().data(), feeds.values().data(),
                               feeds.names().size(), kOutputs, found.size(), found.data());
  for (std::size_t i = 0; i < found.size(); ++i) {
    if ((*outputs)[i] == nullptr) (*outputs)[i].reset(found[i]);
  }
  expect(status);
}

}  // namespace shortlist::engine
