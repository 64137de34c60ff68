// One request of a call, answered, and why the listed items are there (internal); see reasons.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "engine/batch.hpp"
#include "engine/reasons.hpp"

namespace shortlist::engine {

using Pieces = std::vector<std::size_t>;  // of evidence, ascending

// Different sets of pieces, numbered as they come.
class Sets {
 public:
  std::size_t number_of(const Pieces& pieces);
  // @pre number_of was asked for them
  std::size_t find(const Pieces& pieces) const { return numbers_.at(pieces); }
  const std::vector<Pieces>& all() const { return all_; }

 private:
  std::map<Pieces, std::size_t> numbers_;
  std::vector<Pieces> all_;
};

// What a search finds for n requests, and room for it.
struct Found {
  Found(std::size_t n, std::size_t top_n)
      : scores(n * top_n), rows(n * top_n), counts(n), sources(n), stages(n) {}
  AnswerView view() {
    return {scores.data(), rows.data(), counts.data(), sources.data(), stages.data(), nullptr};
  }

  std::vector<float> scores;
  std::vector<std::int64_t> rows, counts, sources;
  std::vector<std::int8_t> stages;
};

class LoadedBundle::Explained {
 public:
  struct Asked {
    const LoadedBundle& bundle;
    const Call& call;
    const Catalogue& catalogue;
    const ReasonOptions& options;
    const std::vector<BoundColumn>& bound;  // of the evidence
    std::size_t request;                    // of the call
  };

  // `excluded` are rows that no search may find, `listed` those of the answer.
  Explained(const Asked& asked, const Evidence& evidence, std::vector<std::int64_t> excluded,
            std::vector<std::int64_t> listed);

  // Room for n_reasons of every listed item, filled with none.
  void find(const ReasonsView& reasons);

 private:
  struct Margin {
    double size;
    bool is_out;  // of the list, among the judged rows; so certain that rounding is no matter
  };

  bool try_all(std::size_t step, const ReasonsView& reasons);
  void begin(const std::vector<Margin>& margins);
  template <class Visit>
  void each_next(std::size_t item, const Visit& visit) const;
  bool choose(std::size_t item, std::size_t step, Sets& sets, const std::vector<Margin>& margins,
              const ReasonsView& reasons);
  std::vector<Margin> margins_of(const std::vector<Pieces>& sets);
  std::vector<double> scores_by_vectors(const std::vector<Pieces>& sets);
  std::vector<double> scores_by_graph(const std::vector<Pieces>& sets);
  void find_rivals();
  void put_margins(const double* scores, Margin* margins) const;
  void replay(const ReasonsView& reasons) const;
  void search(const std::vector<Pieces>& sets, std::vector<std::int64_t>* rows) const;
  template <class Work>
  void ask(const std::vector<Pieces>& sets, const Work& work) const;

  const Asked asked_;
  const Evidence& evidence_;
  std::vector<std::int64_t> excluded_;
  std::size_t n_listed_;
  std::vector<std::int64_t> judged_;  // rows: the listed, then their rivals
  std::vector<Pieces> chosen_;        // by item, in the order of its reasons
  std::vector<double> best_;          // margin of each item without them
  std::vector<std::vector<std::size_t>> tried_;
  // One stage: the index alone decides, so that vectors are as good as runs of the graph.
  bool by_vectors_;
  std::vector<float> vectors_;  // of the judged rows
  Sets encoded_;
  std::vector<float> users_;  // embeddings of the encoded sets
};

}  // namespace shortlist::engine
