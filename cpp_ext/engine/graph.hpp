// recommend.onnx or recommend_portable.onnx, open: what answers are made with (internal).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/session.hpp"
#include "ort_op/register.hpp"
#include "ort_op/search_call.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

constexpr const char* kGraph = "recommend.onnx";
constexpr const char* kOutputs[] = {"scores", "rows", "counts", "source"};

class [[gnu::visibility("default")]] Graph {
 public:
  // `name` is what messages call the graph; `index` is the bundle's, null for a graph without our
  // operators. Throws FileError for a graph that has other inputs and outputs than docs/plugin.md
  // says, and as Session.
  Graph(const Runtime& runtime, const std::string& path, const std::string& name,
        const IndexView* index, const SessionSettings& settings);

  const Session& session() const { return *session_; }
  // But for top_n, and those that may be left out.
  const std::vector<Input>& inputs() const { return inputs_; }
  bool has_texts() const { return has_texts_; }
  // Whether there is a second stage, which a run may leave out.
  bool has_reranker() const { return session_->has_optional("stages"); }

  // Fills `outputs`, those of kOutputs.
  void run(const Feeds& feeds, const ort_op::SearchCall& call,
           std::vector<Handle<OrtValue>>* outputs) const;

 private:
  void read_interface();

  std::unique_ptr<const ort_op::IndexOperators> operators_;  // used by the session
  std::unique_ptr<const Session> session_;
  std::vector<Input> inputs_;
  bool has_texts_ = false;
};

}  // namespace shortlist::engine
