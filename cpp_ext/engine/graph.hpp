// recommend.onnx, open: its session and what goes in and out of it (internal).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "columns.hpp"
#include "register.hpp"
#include "runtime.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

constexpr const char* kOutputs[] = {"scores", "rows", "counts", "source", "item_ids"};
constexpr auto kNumber = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kText = ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;

// The inputs of one run. Values over the caller's memory are good as long as that is.
class Feeds {
 public:
  void add(const char* name, Handle<OrtValue> value);
  // Numbers that stay with the feeds.
  std::vector<std::int64_t>& keep(std::vector<std::int64_t> numbers);

  const std::vector<const char*>& names() const { return names_; }
  const std::vector<const OrtValue*>& values() const { return values_; }

 private:
  std::vector<Handle<OrtValue>> owners_;
  std::vector<std::unique_ptr<std::vector<std::int64_t>>> kept_;
  std::vector<const char*> names_;
  std::vector<const OrtValue*> values_;
};

class Graph {
 public:
  // `name` is what messages call the graph; TopN searches `index`. Throws std::runtime_error for a
  // graph that has other inputs and outputs than docs/plugin.md says.
  Graph(const Runtime& runtime, const std::string& path, const std::string& name,
        const IndexView& index, std::size_t n_threads);

  const OrtApi& api() const { return api_; }
  // But for top_n, exclude_seen and the filters.
  const std::vector<Input>& inputs() const { return inputs_; }
  bool has_texts() const { return has_texts_; }
  // False for a graph of an older release, which takes none.
  bool has_filters() const { return has_filters_; }

  // A tensor over the caller's memory, (n, width); width 0: (n,).
  Handle<OrtValue> over(const void* data, std::size_t n, std::size_t width,
                        ONNXTensorElementDataType type) const;
  // Fills `outputs`, those of kOutputs; null ones become tensors of ONNX Runtime's.
  void run(const Feeds& feeds, std::vector<Handle<OrtValue>>* outputs) const;
  void expect(OrtStatus* status) const { expect_ok(api_, status, name_); }

 private:
  void open_session(const std::string& path, std::size_t n_threads);
  void read_interface();

  const OrtApi& api_;
  std::string name_;
  Handle<OrtEnv> environment_;
  Handle<OrtMemoryInfo> memory_;
  std::unique_ptr<const ort_op::IndexOperators> operators_;  // used by the session
  Handle<OrtSession> session_;
  std::vector<Input> inputs_;
  bool has_texts_ = false;
  bool has_filters_ = false;
};

}  // namespace shortlist::engine
