// recommend_portable.onnx, open: retrieval on the device, in place of the index on the CPU
// (internal).
//
// The graph holds the catalogue as it was exported and knows no filters: what it cannot answer the
// index does. Its scores equal the index's up to float32 rounding.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/call.hpp"
#include "engine/faster_way.hpp"
#include "engine/graph.hpp"

namespace shortlist::engine {

constexpr const char* kPortableGraph = "recommend_portable.onnx";

// Throws std::invalid_argument unless it is one of
//   index     the index finds the items
//   graph     the portable graph, where it can
//   auto      the index where recommend.onnx runs on the CPU, else as
//   measured  the faster one for each batch size
void check_search(const std::string& search);

class PortableSearch {
 public:
  // `graph` is recommend.onnx: this one takes the same. Throws as Graph, and FileError if not.
  PortableSearch(const Runtime& runtime, const std::string& path, const std::string& name,
                 const Graph& graph, const SessionSettings& settings);

  const Session& session() const { return graph_.session(); }
  const FasterWay& way() const { return way_; }
  FasterWay& way() { return way_; }
  bool takes(std::size_t n_requests) const { return way_.of(n_requests) == FasterWay::Way::graph; }
  // Runs that there were.
  std::uint64_t n_runs() const { return n_runs_; }
  // Fills `outputs`, those of kOutputs.
  void run(const Feeds& feeds, std::vector<Handle<OrtValue>>* outputs) const;

 private:
  Graph graph_;
  FasterWay way_{FasterWay::Way::graph};
  mutable std::atomic<std::uint64_t> n_runs_{0};
};

// Made-up requests to measure with, the same in every process: histories of `width` items.
class TrialRequests {
 public:
  TrialRequests(const IndexView& items, std::size_t width);
  TrialRequests(const TrialRequests&) = delete;
  TrialRequests& operator=(const TrialRequests&) = delete;

  // Borrowed. @pre n <= kMost
  Call call(std::size_t n) const;
  AnswerView answer();

  static constexpr std::size_t kMost = 256;

 private:
  std::size_t top_n_;
  std::vector<std::int64_t> numbers_, splits_;
  std::vector<shortlist_text> texts_;
  shortlist_column history_{};
  std::vector<float> scores_;
  std::vector<std::int64_t> rows_, counts_, sources_;
};

}  // namespace shortlist::engine
