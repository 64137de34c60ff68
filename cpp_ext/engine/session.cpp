#include "engine/session.hpp"

#include <algorithm>
#include <future>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "engine/errors.hpp"
#include "shortlist/file_error.hpp"
#include "shortlist/thread_pool.hpp"

namespace shortlist::engine {
namespace {

// Reads name, type and shape of an input or output.
using GetName = decltype(OrtApi::SessionGetInputName);
using GetInfo = decltype(OrtApi::SessionGetInputTypeInfo);
using GetCount = decltype(OrtApi::SessionGetInputCount);

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

std::vector<Input> read_all(const OrtApi& api, const OrtSession* session, GetCount get_count,
                            GetName get_name, GetInfo get_info) {
  std::size_t n = 0;
  expect_ok(api, get_count(session, &n), "ports");
  std::vector<Input> ports;
  for (std::size_t i = 0; i < n; ++i) {
    ports.push_back(read_port(api, session, i, get_name, get_info));
  }
  return ports;
}

Handle<OrtEnv> make_environment(const OrtApi& api) {
  const Uncut uncut;  // all sessions of the process share it
  OrtEnv* environment = nullptr;
  expect_ok(api, api.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "shortlist", &environment), "ONNX Runtime");
  end_children_early();  // its library is loaded, and its handlers are there
  return {environment, api.ReleaseEnv};
}

Handle<OrtMemoryInfo> make_memory_info(const OrtApi& api) {
  OrtMemoryInfo* info = nullptr;
  expect_ok(api, api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info), "memory");
  return {info, api.ReleaseMemoryInfo};
}

// Whether the system has room for so many threads more.
bool can_start(int n_threads) {
  std::promise<void> end;
  const std::shared_future<void> ended = end.get_future().share();
  std::vector<std::thread> threads;
  bool is_possible = true;
  try {
    for (int i = 0; i < n_threads; ++i) threads.emplace_back([ended] { ended.wait(); });
  } catch (const std::system_error&) {
    is_possible = false;
  }
  end.set_value();
  for (std::thread& thread : threads) thread.join();
  return is_possible;
}

std::size_t size_of(ONNXTensorElementDataType type) {
  return type == kNumber ? sizeof(std::int64_t) : type == kFloat ? sizeof(float) : 1;
}

}  // namespace

bool may_give_way(const Runtime& runtime, const SessionSettings& settings) {
  const std::size_t n_threads = settings.n_threads == 0 ? num_threads() : settings.n_threads;
  return n_threads == 1 && !Providers(*runtime.api, settings.device, "").has_device();
}

void Feeds::add(const char* name, Handle<OrtValue> value) {
  names_.push_back(name);
  values_.push_back(value.get());
  owners_.push_back(std::move(value));
}

// A session of the process that made it.
struct Session::Opened {
  explicit Opened(const OrtApi& api)
      : environment(make_environment(api)), session(nullptr, api.ReleaseSession) {}
  ~Opened() {
    session.reset();
    const Uncut uncut;
    environment.reset();
  }

  std::atomic<std::uint64_t> of_forks{n_forks()};
  std::atomic<std::size_t> n_running{0};
  Handle<OrtEnv> environment;
  Handle<OrtSession> session;
};

Session::Session(const Runtime& runtime, const std::string& path, const std::string& name,
                 const SessionSettings& settings, const ort_op::IndexOperators* operators)
    : runtime_(runtime),
      api_(*runtime.api),
      path_(path),
      name_(name),
      n_threads_(static_cast<int>(settings.n_threads == 0 ? num_threads() : settings.n_threads)),
      operators_(operators),
      memory_(make_memory_info(api_)) {
  std::unique_ptr<Opened> owner;
  try {
    open_first(settings);
    owner.reset(opened_);
    read_ports();
  } catch (const DeviceMissing&) {
    throw;
  } catch (const ThreadsMissing&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw FileError(name_ + ": expected a graph ONNX Runtime can open, found " + error.what());
  }
  owner.release();
}

Session::~Session() {
  Opened* const opened = opened_;
  if (is_usable(*opened)) delete opened;
}

void Session::open_first(const SessionSettings& settings) {
  const Providers providers(api_, settings.device, name_);
  std::unique_ptr<Opened> opened;
  device_ = settings.device;
  try {
    opened = open(providers);
    nodes_ = count_nodes(runtime_, opened->session.get());
    provider_ = providers.check_runs(nodes_);
  } catch (const std::exception&) {
    if (settings.device != "auto" || !providers.has_device()) throw;
    device_ = "cpu";
    const Providers cpu(api_, device_, name_);
    opened = open(cpu);
    nodes_ = count_nodes(runtime_, opened->session.get());
    provider_ = cpu.check_runs(nodes_);
  }
  opened_ = opened.release();
}

// ONNX Runtime looks for graphs.data and items.index beside the graph.
std::unique_ptr<Session::Opened> Session::open(const Providers& providers) const {
  auto opened = std::make_unique<Opened>(api_);
  OrtSessionOptions* made = nullptr;
  expect(api_.CreateSessionOptions(&made));
  const Handle<OrtSessionOptions> options(made, api_.ReleaseSessionOptions);
  expect(api_.SetIntraOpNumThreads(made, n_threads_));
  expect(api_.SetInterOpNumThreads(made, 1));
  // Operators run on the thread that calls Run: search_call.hpp builds on it.
  expect(api_.SetSessionExecutionMode(made, ORT_SEQUENTIAL));
  expect(api_.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_FATAL));
  // On shared cores spinning costs more than it saves.
  expect(api_.AddSessionConfigEntry(made, "session.intra_op.allow_spinning", "0"));
  expect(api_.AddSessionConfigEntry(made, "session.record_ep_graph_assignment_info", "1"));
  if (operators_ != nullptr) expect(operators_->add_to(made));
  providers.add_to(made);
  OrtSession* session = nullptr;
  OrtStatus* const status =
      api_.CreateSession(opened->environment.get(), path_.c_str(), made, &session);
  if (status != nullptr && n_threads_ > 1 && !can_start(n_threads_ - 1)) {
    api_.ReleaseStatus(status);
    throw ThreadsMissing(name_ + ": expected to start " + std::to_string(n_threads_ - 1) +
                         " threads, found that the system gives this process no more; load with "
                         "n_threads=1, or raise the limit (ulimit -u, the container's pids)");
  }
  expect(status);
  opened->session.reset(session);
  return opened;
}

// A session without threads of its own is good in a child too, unless some thread was inside.
bool Session::is_usable(const Opened& opened) const {
  const bool has_threads = n_threads_ > 1 || has_device();
  return opened.of_forks == n_forks() || (!has_threads && opened.n_running == 0);
}

Session::Opened& Session::opened() const {
  if (Opened* const now = opened_; now->of_forks == n_forks()) return *now;
  const auto lock = opening_.lock();
  Opened* const now = opened_;
  if (is_usable(*now)) {
    now->of_forks = n_forks();
    return *now;
  }
  // The old one is never closed: that would wait for threads that are no more.
  std::unique_ptr<Opened> fresh;
  try {
    fresh = open(Providers(api_, device_, name_));
  } catch (const ThreadsMissing&) {
    throw;
  } catch (const std::exception& error) {
    throw FileError(name_ + ": expected to open it again in this forked process, found " +
                    error.what() + "; load the bundle after the fork");
  }
  opened_ = fresh.get();
  return *fresh.release();
}

void Session::read_ports() {
  OrtSession* const session = opened().session.get();
  inputs_ = read_all(api_, session, api_.SessionGetInputCount, api_.SessionGetInputName,
                     api_.SessionGetInputTypeInfo);
  optional_inputs_ = read_all(api_, session, api_.SessionGetOverridableInitializerCount,
                              api_.SessionGetOverridableInitializerName,
                              api_.SessionGetOverridableInitializerTypeInfo);
  outputs_ = read_all(api_, session, api_.SessionGetOutputCount, api_.SessionGetOutputName,
                      api_.SessionGetOutputTypeInfo);
}

bool Session::has_device() const {
  if (nodes_.empty()) return provider_ != kCpuProvider;
  return nodes_.size() > nodes_.count(kCpuProvider);
}

bool Session::has_optional(const char* input) const {
  return std::any_of(optional_inputs_.begin(), optional_inputs_.end(),
                     [input](const Input& one) { return one.name == input; });
}

Handle<OrtValue> Session::over(const void* data, std::size_t n, std::size_t width,
                               ONNXTensorElementDataType type) const {
  static const std::int64_t kNothing = 0;  // ONNX Runtime wants an address even of no numbers
  const std::int64_t shape[] = {static_cast<std::int64_t>(n), static_cast<std::int64_t>(width)};
  OrtValue* value = nullptr;
  // The one call for inputs and outputs takes a mutable address; inputs are only read.
  void* const address = const_cast<void*>(data == nullptr ? &kNothing : data);
  expect(api_.CreateTensorWithDataAsOrtValue(memory_.get(), address,
                                             n * std::max<std::size_t>(1, width) * size_of(type),
                                             shape, width == 0 ? 1 : 2, type, &value));
  return {value, api_.ReleaseValue};
}

void Session::run(const Feeds& feeds, const char* const* names,
                  std::vector<Handle<OrtValue>>* outputs) const {
  std::vector<OrtValue*> found;
  for (const Handle<OrtValue>& output : *outputs) found.push_back(output.get());
  Opened& opened = this->opened();
  ++opened.n_running;
  OrtStatus* status =
      api_.Run(opened.session.get(), nullptr, feeds.names().data(), feeds.values().data(),
               feeds.names().size(), names, found.size(), found.data());
  --opened.n_running;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if ((*outputs)[i] == nullptr) (*outputs)[i].reset(found[i]);
  }
  expect(status);
}

}  // namespace shortlist::engine
