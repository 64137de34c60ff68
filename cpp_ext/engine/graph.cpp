#include "engine/graph.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace shortlist::engine {
namespace {

// One value a request, or a list of any length; only vectors, of numbers, have a length of their
// own.
bool is_column(const Input& input) {
  const bool is_typed = input.type == kNumber || input.type == kFloat || input.type == kText;
  const std::size_t rank = input.shape.size();
  const bool is_vector = input.type == kFloat && !is_history(input);
  return is_typed && (rank == 1 || (rank == 2 && (input.shape[1] < 0 || is_vector))) &&
         (rank == 1 || input.shape[1] != 0);
}

std::unique_ptr<const ort_op::IndexOperators> make_operators(const OrtApi& api,
                                                             const std::string& name,
                                                             const IndexView* index) {
  if (index == nullptr) return nullptr;
  try {
    return std::make_unique<const ort_op::IndexOperators>(api, *index);
  } catch (const ort_op::Failure& failure) {
    expect_ok(api, failure.status, name);
    throw std::runtime_error(name);
  }
}

}  // namespace

Graph::Graph(const Runtime& runtime, const std::string& path, const std::string& name,
             const IndexView* index, const SessionSettings& settings)
    : operators_(make_operators(*runtime.api, name, index)),
      session_(std::make_unique<const Session>(runtime, path, name, settings, operators_.get())) {
  read_interface();
}

void Graph::read_interface() {
  bool has_top_n = false, are_columns = true;
  auto history_type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  for (const Input& input : session_->inputs()) {
    if (input.name == "top_n") {
      has_top_n = input.type == kNumber;
      continue;
    }
    if (input.name == "history" && input.shape.size() == 2) history_type = input.type;
    are_columns = are_columns && is_column(input);
    inputs_.push_back(input);
  }
  std::size_t n_fit = 0;
  for (const Input& output : session_->outputs()) {
    if (output.name == "item_ids") has_texts_ = output.type == kText;
    const bool is_known =
        std::find(std::begin(kOutputs), std::end(kOutputs), output.name) != std::end(kOutputs);
    n_fit += is_known && output.type == (output.name == "scores" ? kFloat : kNumber);
  }
  const bool has_history = history_type == (has_texts_ ? kText : kNumber);
  if (has_top_n && has_history && are_columns && n_fit == std::size(kOutputs)) return;
  throw FileError(session_->name() +
                  ": expected a graph ONNX Runtime can open, found other inputs and outputs than "
                  "those of docs/plugin.md");
}

void Graph::run(const Feeds& feeds, const ort_op::SearchCall& call,
                std::vector<Handle<OrtValue>>* outputs) const {
  const ort_op::CallScope scope(call);
  session_->run(feeds, kOutputs, outputs);
}

}  // namespace shortlist::engine
