#include "engine/portable_search.hpp"

#include <algorithm>
#include <random>
#include <stdexcept>
#include <string_view>

namespace shortlist::engine {
namespace {

bool is_same(const Input& one, const Input& other) {
  return one.name == other.name && one.type == other.type && one.shape == other.shape;
}

}  // namespace

void check_search(const std::string& search) {
  for (const char* known : {"auto", "index", "graph", "measured"}) {
    if (search == known) return;
  }
  throw std::invalid_argument("search: got '" + search + "', expected one of auto, index, graph");
}

PortableSearch::PortableSearch(const Runtime& runtime, const std::string& path,
                               const std::string& name, const Graph& graph,
                               const SessionSettings& settings)
    : graph_(runtime, path, name, nullptr, settings) {
  const std::vector<Input>&own = graph_.inputs(), &wanted = graph.inputs();
  if (std::equal(own.begin(), own.end(), wanted.begin(), wanted.end(), is_same) &&
      graph_.has_texts() == graph.has_texts() && graph_.has_reranker() == graph.has_reranker()) {
    return;
  }
  throw FileError(name + ": expected the inputs of " + graph.session().name() +
                  ", found others; export the run again");
}

void PortableSearch::run(const Feeds& feeds, std::vector<Handle<OrtValue>>* outputs) const {
  ++n_runs_;
  graph_.run(feeds, {}, outputs);
}

TrialRequests::TrialRequests(const IndexView& items, std::size_t width)
    : top_n_(std::min<std::size_t>(10, items.n_rows())) {
  const std::size_t n_rows = items.n_rows(), length = std::min(width, n_rows);
  std::mt19937_64 random(0);
  for (std::size_t i = 0; i <= kMost; ++i) {
    splits_.push_back(static_cast<std::int64_t>(i * length));
  }
  for (std::size_t i = 0; i < kMost * length; ++i) {
    const auto row = static_cast<std::size_t>(random() % n_rows);
    if (items.id_kind() == ItemIds::Kind::string) {
      const std::string_view text = items.string_at(row);  // of the index, which stays
      texts_.push_back({text.data(), text.size()});
    } else {
      numbers_.push_back(items.int64_at(row));
    }
  }
  history_.name = "history";
  history_.numbers = numbers_.empty() ? nullptr : numbers_.data();
  history_.texts = texts_.empty() ? nullptr : texts_.data();
  history_.splits = splits_.data();
}

Call TrialRequests::call(std::size_t n) const {
  Call call;
  call.n_requests = n;
  call.columns = &history_;
  call.n_columns = 1;
  call.top_n = top_n_;
  return call;
}

AnswerView TrialRequests::answer() {
  scores_.resize(kMost * top_n_);
  rows_.resize(kMost * top_n_);
  counts_.resize(kMost);
  sources_.resize(kMost);
  return {scores_.data(), rows_.data(), counts_.data(), sources_.data(), nullptr};
}

}  // namespace shortlist::engine
