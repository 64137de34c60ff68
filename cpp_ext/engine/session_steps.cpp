// Steps of a recurrent encoder: state and event in, embedding and state out.
#include <algorithm>
#include <cstring>

#include "engine/joined.hpp"
#include "engine/loaded_bundle.hpp"
#include "engine/packed_events.hpp"

namespace shortlist::engine {
namespace {

constexpr const char* kSessionEncoder = "session_encoder.onnx";
constexpr const char* kState = "session_state";
constexpr const char* kOutput[] = {"session"};

// The inputs of a step that change with every one, twice: ages have a place for the event before,
// and the graph reads the last one.
class StepInputs {
 public:
  StepInputs(const Session& session, std::size_t width) : session_(session), state_(width) {}

  // Null for an input that stays.
  Handle<OrtValue> make(const Input& input) {
    if (input.name == kState) return session_.over(state_.data(), 1, state_.size(), kFloat);
    if (input.name == "history_ages") return session_.over(ages_, 1, 2, kFloat);
    const bool are_kinds = input.name == "history_kinds";
    if (!are_kinds && input.name != "history") return {nullptr, session_.api().ReleaseValue};
    if (input.type == kNumber) return session_.over(items_, 1, 2, kNumber);
    Handle<OrtValue> texts = make_tensor(session_.api(), {1, 2}, kText);
    (are_kinds ? kinds_ : texts_) = texts.get();
    return texts;
  }

  void set(const Event& event, float pause, const float* state) {
    std::copy_n(state, state_.size(), state_.data());
    ages_[0] = pause;
    items_[0] = items_[1] = event.item.number;
    if (texts_ != nullptr) put(texts_, 0, event.item.text);
    if (texts_ != nullptr) put(texts_, 1, event.item.text);
    if (kinds_ != nullptr) put(kinds_, 1, event.kind);
  }

 private:
  void put(OrtValue* tensor, std::size_t i, std::string_view text) const {
    char* bytes = nullptr;
    session_.expect(
        session_.api().GetResizedStringTensorElementBuffer(tensor, i, text.size(), &bytes));
    if (!text.empty()) std::memcpy(bytes, text.data(), text.size());
  }

  const Session& session_;
  std::vector<float> state_;
  float ages_[2] = {0, 0};
  std::int64_t items_[2] = {0, 0};
  OrtValue* texts_ = nullptr;
  OrtValue* kinds_ = nullptr;
};

}  // namespace

void LoadedBundle::step_session(const std::vector<shortlist_column>& columns,
                                const std::vector<Event>& events, std::int64_t last_time,
                                bool is_first, float* found) const {
  const Session& session = session_encoder();
  std::vector<BoundColumn> bound =
      bind_columns(session.inputs(), columns.data(), columns.size(), 1);
  const std::vector<std::int64_t> user_rows = find_users(
      users_.get(), bundle_.manifest.user_id_dtype == "string", columns.data(), columns.size(), 1);
  const unsigned char is_joined = 1;  // the stored history is in the session's
  std::unique_ptr<const JoinedBatch> joined;
  if (!user_rows.empty()) {
    joined = std::make_unique<const JoinedBatch>(*users_, first_->view(), first_->view(), 1, bound,
                                                 user_rows.data(), &is_joined, 0, 1);
    bound = joined->bound();
  }
  const std::size_t dim = bundle_.manifest.dim, width = session_width();
  StepInputs inputs(session, width - dim);
  Feeds feeds;
  for (const BoundColumn& column : bound) {
    Handle<OrtValue> value = inputs.make(*column.input);
    if (value == nullptr) value = make_input(session.api(), bound, column, 0, 1);
    feeds.add(column.input->name.c_str(), std::move(value));
  }
  std::vector<Handle<OrtValue>> outputs;
  outputs.push_back(session.over(found, 1, width, kFloat));
  const auto gap = static_cast<float>(bundle_.manifest.usual_gap);
  for (const Event& event : events) {
    const bool has_times = event.time != kNoTime && last_time != kNoTime;
    const float pause = is_first ? 0 : has_times ? seconds_between(last_time, event.time) : gap;
    inputs.set(event, pause, found + dim);
    session.run(feeds, kOutput, &outputs);
    last_time = event.time;
    is_first = false;
  }
}

bool LoadedBundle::has_session_encoder() const {
  return bundle_.manifest.files.count(kSessionEncoder) != 0;
}

std::size_t LoadedBundle::session_width() const {
  return static_cast<std::size_t>(session_encoder().outputs()[0].shape[1]);
}

const Session& LoadedBundle::session_encoder() const {
  const auto lock = opening_.lock();
  if (session_encoder_ != nullptr) return *session_encoder_;
  const std::string name = bundle_.name + "/" + kSessionEncoder;
  auto session = std::make_unique<const Session>(runtime_, bundle_.file(kSessionEncoder), name,
                                                 settings_.session, nullptr);
  const std::vector<Input>&inputs = session->inputs(), &outputs = session->outputs();
  const auto state = std::find_if(inputs.begin(), inputs.end(),
                                  [](const Input& input) { return input.name == kState; });
  const auto dim = static_cast<std::int64_t>(bundle_.manifest.dim);
  const bool has_state = state != inputs.end() && state->type == kFloat &&
                         state->shape.size() == 2 && state->shape[1] > 0;
  if (!has_state || outputs.size() != 1 || outputs[0].name != kOutput[0] ||
      outputs[0].type != kFloat || outputs[0].shape.size() != 2 ||
      outputs[0].shape[1] != dim + state->shape[1]) {
    throw FileError(name + ": expected an input session_state and one output session (batch, " +
                    std::to_string(dim) + " + its width), found others");
  }
  session_encoder_ = std::move(session);
  return *session_encoder_;
}

}  // namespace shortlist::engine
