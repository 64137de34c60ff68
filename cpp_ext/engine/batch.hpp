// A part of a call that is one run of a graph (internal).
#pragma once

#include "engine/loaded_bundle.hpp"

namespace shortlist::engine {

// Requests first .. first + n of a call.
struct LoadedBundle::Batch {
  const Call& call;
  const Catalogue& catalogue;
  const std::vector<BoundColumn>& given;
  const std::int64_t* user_rows;  // of these requests; null = no user is known
  std::size_t first, n;
};

// Where a call's answer goes, and what is done beside answering.
struct LoadedBundle::Target {
  AnswerView answer;
  float* embeddings = nullptr;
  bool scores_given = false;
  bool needs_index = false;  // the portable graph will not do
};

}  // namespace shortlist::engine
