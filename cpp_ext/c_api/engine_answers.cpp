// shortlist_engine_recommend and _explain: answers, and what they point into.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "c_api/engine_handle.hpp"
#include "c_api/guard.hpp"
#include "c_api/names.hpp"
#include "c_api/owned_answer.hpp"

using shortlist::engine::AnswerView;
using shortlist::engine::Call;
using shortlist::engine::Catalogue;
using shortlist::engine::LoadedBundle;
using shortlist::engine::ReasonOptions;

namespace shortlist::c_api {
namespace {

constexpr std::size_t kUsualReasons = 3, kMostReasons = 100;

OwnedAnswer* recommend(const shortlist_engine& engine, const shortlist_requests& requests) {
  const std::shared_ptr<LoadedBundle> bundle = engine.current();
  auto answer = std::make_unique<OwnedAnswer>(*bundle);
  const CheckedRequests checked(*bundle, answer->catalogue->view(), requests);
  bundle->recommend(checked.call(), *answer->catalogue, answer->room_for(checked.call()));
  answer->name_items();
  return answer.release();
}

// What an explanation points into. Texts are those of the items as exported.
struct OwnedExplanation : shortlist_explanation {
  OwnedExplanation() : shortlist_explanation() {}

  engine::ReasonsView room_for(std::size_t n_places) {
    own_rows.resize(n_places);
    own_drops.resize(n_places);
    own_leaves.resize(n_places);
    drops = own_drops.data();
    leaves_list = own_leaves.data();
    return {own_rows.data(), own_drops.data(), own_leaves.data()};
  }

  // Turns reasons into items and features.
  void name_reasons(const LoadedBundle& bundle) {
    exported = bundle.exported();
    for (const engine::Input& input : bundle.graph().inputs()) names.push_back(input.name);
    own_features.resize(own_rows.size());
    for (std::size_t i = 0; i < own_rows.size(); ++i) {
      if (own_rows[i] >= engine::kNoReason) continue;
      own_features[i] = names[engine::input_of_reason(own_rows[i])].c_str();
      own_rows[i] = engine::kNoReason;
    }
    features = own_features.data();
    const bool has_texts = bundle.graph().has_texts();
    own_numbers.resize(has_texts ? 0 : own_rows.size());
    own_texts.resize(has_texts ? own_rows.size() : 0);
    numbers = has_texts ? nullptr : own_numbers.data();
    texts = has_texts ? own_texts.data() : nullptr;
    write_ids(exported->view(), own_rows.data(), own_rows.size(),
              has_texts ? nullptr : own_numbers.data(), has_texts ? own_texts.data() : nullptr);
  }

  std::unique_ptr<OwnedAnswer> own_answer;
  std::shared_ptr<const Catalogue> exported;
  std::vector<std::string> names;
  std::vector<std::int64_t> own_rows, own_numbers;
  std::vector<shortlist_text> own_texts;
  std::vector<const char*> own_features;
  std::vector<float> own_drops;
  std::vector<std::uint8_t> own_leaves;
};

ReasonOptions checked_options(const shortlist_explain_options* given, std::size_t n_items) {
  ReasonOptions options;
  options.n_reasons = kUsualReasons;
  if (given == nullptr) return options;
  const shortlist_explain_options known = known_fields(given, "options");
  if (known.n_reasons < 1 || known.n_reasons > kMostReasons) {
    throw std::invalid_argument("options.n_reasons: got " + std::to_string(known.n_reasons) +
                                "; expected 1 to " + std::to_string(kMostReasons));
  }
  options.n_reasons = known.n_reasons;
  if (known.thorough != 0) options.n_tried = 0;
  if (known.groups != nullptr && known.n_groups != n_items) {
    throw std::invalid_argument("options.n_groups: got " + std::to_string(known.n_groups) +
                                "; expected " + std::to_string(n_items) +
                                ", one for each item of the bundle");
  }
  options.groups = known.groups;
  return options;
}

OwnedExplanation* explain(const shortlist_engine& engine, const shortlist_requests& requests,
                          const shortlist_explain_options* given) {
  const std::shared_ptr<LoadedBundle> bundle = engine.current();
  auto explanation = std::make_unique<OwnedExplanation>();
  explanation->own_answer = std::make_unique<OwnedAnswer>(*bundle);
  OwnedAnswer& answer = *explanation->own_answer;
  const CheckedRequests checked(*bundle, answer.catalogue->view(), requests);
  const ReasonOptions options = checked_options(given, bundle->exported()->view().n_rows());
  const Call& call = checked.call();
  if (call.variety.is_set()) {
    throw std::invalid_argument(
        "requests.filter.variety: got some; reasons are of lists without it: set it to NULL");
  }
  const AnswerView room = answer.room_for(call);
  bundle->explain(call, *answer.catalogue, options, room,
                  explanation->room_for(call.n_requests * call.top_n * options.n_reasons));
  answer.name_items();
  explanation->name_reasons(*bundle);
  explanation->answer = &answer;
  explanation->n_reasons = options.n_reasons;
  return explanation.release();
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist::c_api;

shortlist_status shortlist_engine_recommend(const shortlist_engine* engine,
                                            const shortlist_requests* requests,
                                            shortlist_answer** answer, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(answer, "answer", "the address of a shortlist_answer pointer");
    *answer = nullptr;
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(requests, "requests", "the address of a shortlist_requests");
    *answer = recommend(*engine, known_requests(requests));
  });
}

void shortlist_answer_free(shortlist_answer* answer) {
  delete static_cast<OwnedAnswer*>(answer);
}

shortlist_status shortlist_engine_explain(const shortlist_engine* engine,
                                          const shortlist_requests* requests,
                                          const shortlist_explain_options* options,
                                          shortlist_explanation** explanation,
                                          shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(explanation, "explanation", "the address of a shortlist_explanation pointer");
    *explanation = nullptr;
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(requests, "requests", "the address of a shortlist_requests");
    *explanation = explain(*engine, known_requests(requests), options);
  });
}

void shortlist_explanation_free(shortlist_explanation* explanation) {
  delete static_cast<OwnedExplanation*>(explanation);
}
