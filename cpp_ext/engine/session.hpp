// One graph, open in ONNX Runtime (internal): where it runs, what goes in and what comes out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/columns.hpp"
#include "engine/providers.hpp"
#include "engine/runtime.hpp"
#include "ort_op/register.hpp"
#include "src/system/forks.hpp"

namespace shortlist::engine {

constexpr auto kNumber = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kText = ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
constexpr auto kBool = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;

struct SessionSettings {
  // "cpu", "cuda", "tensorrt", or "auto": CUDA where this ONNX Runtime has it and it starts.
  std::string device = "cpu";
  std::size_t n_threads = 1;  // 0 = num_threads()
};

// Whether a thread that gives way to others may open such a session. Not one that starts threads of
// its own, for several cores or for a GPU: these would give way for good. Throws as Providers.
[[gnu::visibility("default")]] bool may_give_way(const Runtime& runtime,
                                                 const SessionSettings& settings);

// The inputs of one run. Values over the caller's memory are good as long as that is.
class Feeds {
 public:
  void add(const char* name, Handle<OrtValue> value);

  const std::vector<const char*>& names() const { return names_; }
  const std::vector<const OrtValue*>& values() const { return values_; }

 private:
  std::vector<Handle<OrtValue>> owners_;
  std::vector<const char*> names_;
  std::vector<const OrtValue*> values_;
};

// A forked child leaves alone what ONNX Runtime may no longer run there, and opens the graph again
// at its first run: a session with threads, which the child has not, and one that was running.
class [[gnu::visibility("default")]] Session {
 public:
  // `name` is what messages call the graph; `operators` may be null and outlive the session. Throws
  // FileError for a graph that ONNX Runtime cannot open, DeviceMissing for a device that was asked
  // for and does not run.
  Session(const Runtime& runtime, const std::string& path, const std::string& name,
          const SessionSettings& settings, const ort_op::IndexOperators* operators);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const OrtApi& api() const { return api_; }
  const std::string& name() const { return name_; }
  // In the graph's order; optional ones are initializers that a run may override.
  const std::vector<Input>& inputs() const { return inputs_; }
  const std::vector<Input>& optional_inputs() const { return optional_inputs_; }
  const std::vector<Input>& outputs() const { return outputs_; }
  bool has_optional(const char* input) const;

  // The provider that runs most nodes, and how many each runs; none where ONNX Runtime (before
  // 1.24) cannot tell.
  const std::string& provider() const { return provider_; }
  const NodeCounts& nodes() const { return nodes_; }
  // Whether a device that is not the CPU runs a part of it.
  bool has_device() const;

  // A tensor over the caller's memory, (n, width); width 0: (n,).
  Handle<OrtValue> over(const void* data, std::size_t n, std::size_t width,
                        ONNXTensorElementDataType type) const;
  // Fills the outputs of these names; null ones become tensors of ONNX Runtime's.
  void run(const Feeds& feeds, const char* const* names,
           std::vector<Handle<OrtValue>>* outputs) const;
  void expect(OrtStatus* status) const { expect_ok(api_, status, name_); }

 private:
  struct Opened;

  std::unique_ptr<Opened> open(const Providers& providers) const;
  void open_first(const SessionSettings& settings);
  bool is_usable(const Opened& opened) const;
  Opened& opened() const;
  void read_ports();

  Runtime runtime_;
  const OrtApi& api_;
  std::string path_, name_, device_;
  int n_threads_;
  const ort_op::IndexOperators* operators_;
  Handle<OrtMemoryInfo> memory_;
  mutable std::atomic<Opened*> opened_{nullptr};
  ForkMutex opening_;  // again
  std::vector<Input> inputs_, optional_inputs_, outputs_;
  std::string provider_;
  NodeCounts nodes_;
};

}  // namespace shortlist::engine
