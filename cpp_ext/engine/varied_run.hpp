// Varied lists where a second stage has its say (internal).
#pragma once

#include <cstddef>
#include <functional>

#include "engine/call.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

// One run of the graph for a batch: all of it is about the batch's requests alone.
struct Pass {
  AnswerView answer;
  std::size_t top_n;
  Filter filter;
  Variety variety;
  int n_stages;  // as Call::stages
};

// Fills the lists of n requests from candidates in the order of the second stage: first from the
// nearest `n_candidates` (or pass.top_n) items; where they do not fill a list, from the nearest of
// those that it may still take, and so on. Requests that weigh similarities choose as
// CandidateChoice says. `run` makes one run of the graph.
void run_varied(const Pass& pass, std::size_t n, const IndexView& items, std::size_t n_candidates,
                const std::function<void(const Pass&)>& run);

}  // namespace shortlist::engine
