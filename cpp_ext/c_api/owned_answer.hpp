// The answer of a call, with what it points into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "c_api/engine_handle.hpp"
#include "c_api/names.hpp"

namespace shortlist::c_api {

// What an answer points into. Texts are those of the catalogue.
struct OwnedAnswer : shortlist_answer {
  explicit OwnedAnswer(const engine::LoadedBundle& bundle)
      : shortlist_answer(), catalogue(bundle.catalogue()), has_texts(bundle.graph().has_texts()) {
    version = bundle.number();
  }

  // Makes room for the answer to a call.
  engine::AnswerView room_for(const engine::Call& call) {
    n_requests = call.n_requests;
    top_n = call.top_n;
    const std::size_t n_places = n_requests * top_n;
    own_scores.resize(n_places);
    own_rows.resize(n_places);
    own_counts.resize(n_requests);
    own_sources.resize(n_requests);
    own_stages.resize(n_requests);
    own_missing.resize(n_requests * call.variety.n_quotas);
    own_numbers.resize(has_texts ? 0 : n_places);
    own_texts.resize(has_texts ? n_places : 0);
    scores = own_scores.data();
    rows = own_rows.data();
    numbers = has_texts ? nullptr : own_numbers.data();
    texts = has_texts ? own_texts.data() : nullptr;
    counts = own_counts.data();
    sources = own_sources.data();
    stages = own_stages.data();
    missing = own_missing.data();
    return {own_scores.data(),  own_rows.data(),   own_counts.data(),
            own_sources.data(), own_stages.data(), own_missing.data()};
  }

  void name_items() {
    write_ids(catalogue->view(), rows, own_rows.size(), has_texts ? nullptr : own_numbers.data(),
              has_texts ? own_texts.data() : nullptr);
  }

  std::shared_ptr<engine::Catalogue> catalogue;
  bool has_texts;
  std::vector<float> own_scores;
  std::vector<std::int64_t> own_rows, own_numbers, own_counts, own_sources, own_missing;
  std::vector<std::int8_t> own_stages;
  std::vector<shortlist_text> own_texts;
};

}  // namespace shortlist::c_api
