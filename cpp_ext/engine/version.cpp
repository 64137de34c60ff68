#include "version.hpp"

#include <algorithm>
#include <iterator>
#include <new>
#include <stdexcept>

#include "shortlist/index.hpp"
#include "shortlist/thread_pool.hpp"

extern "C" OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                     const OrtApiBase* base);

namespace shortlist::engine {
namespace {

// Larger calls are cut, as Engine.recommend cuts them, and batches of long lists once more: memory
// does not grow with the number of requests, but for the answer.
constexpr std::size_t kMaxBatch = 1024;
constexpr const char* kOutputs[] = {"scores", "rows", "counts", "source", "item_ids"};
constexpr auto kNumber = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kText = ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;

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

bool is_column(const Input& input) {
  const bool is_typed = input.type == kNumber || input.type == kFloat || input.type == kText;
  const std::size_t rank = input.shape.size();
  return is_typed && (rank == 1 || (rank == 2 && input.shape[1] != 0));
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

}  // namespace

Version::Version(const Runtime& runtime, const std::string& path, std::size_t n_threads,
                 bool check_hashes, std::uint64_t number)
    : runtime_(runtime),
      api_(*runtime.api),
      bundle_(open_bundle(path, check_hashes)),
      number_(number),
      graph_(bundle_.name + "/recommend.onnx"),
      environment_(make_environment(api_)),
      memory_(make_memory_info(api_)),
      session_(nullptr, api_.ReleaseSession) {
  for (const char* file : {"recommend.onnx", "items.index"}) {
    if (bundle_.manifest.files.count(file) > 0) continue;
    throw FileError(bundle_.name + "/" + file +
                    ": expected a file of the bundle, found no such entry in its manifest; export "
                    "the run again with this release");
  }
  check_index(bundle_);
  try {
    open_session(n_threads);
    read_interface();
  } catch (const FileError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw FileError(graph_ + ": expected a graph ONNX Runtime can open, found " + error.what());
  }
}

void Version::open_session(std::size_t n_threads) {
  OrtSessionOptions* made = nullptr;
  expect_ok(api_, api_.CreateSessionOptions(&made), graph_);
  const Handle<OrtSessionOptions> options(made, api_.ReleaseSessionOptions);
  const int n = static_cast<int>(n_threads == 0 ? num_threads() : n_threads);
  expect_ok(api_, api_.SetIntraOpNumThreads(made, n), graph_);
  expect_ok(api_, api_.SetInterOpNumThreads(made, 1), graph_);
  expect_ok(api_, api_.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_FATAL), graph_);
  // On shared cores spinning costs more than it saves.
  expect_ok(api_, api_.AddSessionConfigEntry(made, "session.intra_op.allow_spinning", "0"), graph_);
  expect_ok(api_, RegisterCustomOps(made, runtime_.base), graph_);
  // ONNX Runtime looks for graphs.data and items.index beside the graph.
  const std::string path = bundle_.file("recommend.onnx");
  OrtSession* session = nullptr;
  expect_ok(api_, api_.CreateSession(environment_.get(), path.c_str(), made, &session), graph_);
  session_.reset(session);
  bundle_.folder = Descriptor();  // everything is read or mapped
}

void Version::read_interface() {
  std::size_t n_inputs = 0, n_outputs = 0;
  expect_ok(api_, api_.SessionGetInputCount(session_.get(), &n_inputs), graph_);
  expect_ok(api_, api_.SessionGetOutputCount(session_.get(), &n_outputs), graph_);
  bool has_top_n = false, has_history = false, are_columns = true;
  for (std::size_t i = 0; i < n_inputs; ++i) {
    Input input =
        read_port(api_, session_.get(), i, api_.SessionGetInputName, api_.SessionGetInputTypeInfo);
    if (input.name == "top_n") {
      has_top_n = input.type == kNumber;
      continue;
    }
    has_history = has_history || (input.name == "history" && input.shape.size() == 2);
    are_columns = are_columns && is_column(input);
    inputs_.push_back(std::move(input));
  }
  std::size_t n_fit = 0;
  for (std::size_t i = 0; i < n_outputs; ++i) {
    const Input output = read_port(api_, session_.get(), i, api_.SessionGetOutputName,
                                   api_.SessionGetOutputTypeInfo);
    const bool are_ids = output.name == "item_ids";
    if (are_ids) has_texts_ = output.type == kText;
    const auto wanted = output.name == "scores" ? kFloat : are_ids && has_texts_ ? kText : kNumber;
    const bool is_known =
        std::find(std::begin(kOutputs), std::end(kOutputs), output.name) != std::end(kOutputs);
    n_fit += is_known && output.type == wanted;
  }
  const bool fits_manifest = has_texts_ == (bundle_.manifest.item_id_dtype == "string");
  if (has_top_n && has_history && are_columns && n_fit == std::size(kOutputs) && fits_manifest) {
    return;
  }
  throw std::runtime_error("other inputs and outputs than those of docs/plugin.md");
}

void Version::recommend(const shortlist_requests& requests, Answer* answer) const {
  const std::size_t n = requests.n_requests, n_places = n * requests.top_n;
  const std::vector<BoundColumn> bound =
      bind_columns(inputs_, requests.columns, requests.n_columns, n);
  answer->own_scores.resize(n_places);
  answer->own_rows.resize(n_places);
  answer->own_counts.resize(n);
  answer->own_sources.resize(n);
  if (has_texts_) {
    answer->own_texts.resize(n_places);
  } else {
    answer->own_numbers.resize(n_places);
  }
  for (std::size_t first = 0; first < n;) {
    const std::size_t n_now = batch_size(bound, first, std::min(kMaxBatch, n - first));
    run(bound, requests, first, n_now, answer);
    first += n_now;
  }
  answer->n_requests = n;
  answer->top_n = requests.top_n;
  answer->version = number_;
  answer->scores = answer->own_scores.data();
  answer->rows = answer->own_rows.data();
  answer->numbers = has_texts_ ? nullptr : answer->own_numbers.data();
  answer->texts = has_texts_ ? answer->own_texts.data() : nullptr;
  answer->counts = answer->own_counts.data();
  answer->sources = answer->own_sources.data();
}

void Version::warm() const {
  shortlist_requests requests{};
  requests.n_requests = requests.top_n = 1;
  Answer answer{};
  recommend(requests, &answer);
}

// A tensor over the caller's memory; width 0: one number a request.
Handle<OrtValue> Version::over(void* data, std::size_t n, std::size_t width,
                               ONNXTensorElementDataType type) const {
  const std::int64_t shape[] = {static_cast<std::int64_t>(n), static_cast<std::int64_t>(width)};
  const std::size_t n_bytes =
      n * std::max<std::size_t>(1, width) * (type == kFloat ? sizeof(float) : sizeof(std::int64_t));
  OrtValue* value = nullptr;
  expect_ok(api_,
            api_.CreateTensorWithDataAsOrtValue(memory_.get(), data, n_bytes, shape,
                                                width == 0 ? 1 : 2, type, &value),
            graph_);
  return {value, api_.ReleaseValue};
}

// In the order of kOutputs. ONNX Runtime writes right into the answer, but for texts, which it
// owns.
std::vector<Handle<OrtValue>> Version::make_outputs(std::size_t top_n, std::size_t first,
                                                    std::size_t n, Answer* answer) const {
  const std::size_t place = first * top_n;
  std::vector<Handle<OrtValue>> outputs;
  outputs.push_back(over(answer->own_scores.data() + place, n, top_n, kFloat));
  outputs.push_back(over(answer->own_rows.data() + place, n, top_n, kNumber));
  outputs.push_back(over(answer->own_counts.data() + first, n, 0, kNumber));
  outputs.push_back(over(answer->own_sources.data() + first, n, 0, kNumber));
  if (has_texts_) {
    outputs.emplace_back(nullptr, api_.ReleaseValue);
  } else {
    outputs.push_back(over(answer->own_numbers.data() + place, n, top_n, kNumber));
  }
  return outputs;
}

void Version::run(const std::vector<BoundColumn>& bound, const shortlist_requests& requests,
                  std::size_t first, std::size_t n, Answer* answer) const {
  std::vector<Handle<OrtValue>> inputs;
  std::vector<const char*> names;
  for (const BoundColumn& column : bound) {
    inputs.push_back(make_input(api_, bound, column, first, n));
    names.push_back(column.input->name.c_str());
  }
  std::int64_t top_n = static_cast<std::int64_t>(requests.top_n);
  inputs.push_back(over(&top_n, 1, 0, kNumber));
  names.push_back("top_n");
  if (requests.include_seen != 0) {
    inputs.push_back(make_tensor(api_, {1}, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL));
    void* exclude_seen = nullptr;
    expect_ok(api_, api_.GetTensorMutableData(inputs.back().get(), &exclude_seen), graph_);
    *static_cast<bool*>(exclude_seen) = false;
    names.push_back("exclude_seen");
  }
  std::vector<const OrtValue*> given;
  for (const Handle<OrtValue>& input : inputs) given.push_back(input.get());
  std::vector<Handle<OrtValue>> outputs = make_outputs(requests.top_n, first, n, answer);
  std::vector<OrtValue*> found;
  for (const Handle<OrtValue>& output : outputs) found.push_back(output.get());
  OrtStatus* status = api_.Run(session_.get(), nullptr, names.data(), given.data(), given.size(),
                               kOutputs, found.size(), found.data());
  if (has_texts_) outputs.back().reset(found.back());
  expect_ok(api_, status, graph_);
  if (has_texts_) keep_texts(found.back(), first * requests.top_n, answer);
}

void Version::keep_texts(const OrtValue* ids, std::size_t first, Answer* answer) const {
  std::size_t n_bytes = 0;
  expect_ok(api_, api_.GetStringTensorDataLength(ids, &n_bytes), graph_);
  OrtTensorTypeAndShapeInfo* info = nullptr;
  expect_ok(api_, api_.GetTensorTypeAndShape(ids, &info), graph_);
  const Handle<OrtTensorTypeAndShapeInfo> owner(info, api_.ReleaseTensorTypeAndShapeInfo);
  std::size_t n = 0;
  expect_ok(api_, api_.GetTensorShapeElementCount(info, &n), graph_);
  if (n > answer->own_texts.size() - first) throw std::runtime_error(graph_ + ": too many ids");
  std::string bytes(n_bytes, '\0');
  std::vector<std::size_t> offsets(n + 1, n_bytes);
  expect_ok(api_, api_.GetStringTensorContent(ids, bytes.data(), n_bytes, offsets.data(), n),
            graph_);
  answer->own_bytes.push_back(std::move(bytes));
  for (std::size_t i = 0; i < n; ++i) {
    answer->own_texts[first + i] = {answer->own_bytes.back().data() + offsets[i],
                                    offsets[i + 1] - offsets[i]};
  }
}

}  // namespace shortlist::engine
