// SessionStore and Session for Python: convert and call, nothing else.
#include "bindings/register_sessions.hpp"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/call_variety.hpp"
#include "bindings/given_call.hpp"
#include "engine/session_store.hpp"

namespace shortlist::bindings {
namespace {

namespace py = pybind11;
using engine::Catalogue;
using engine::Event;
using engine::LoadedBundle;
using engine::SessionHandle;
using engine::SessionStore;
using SharedBundle = std::shared_ptr<LoadedBundle>;
using SharedCatalogue = std::shared_ptr<Catalogue>;

// Items of one column without splits: those of an array (n,).
std::vector<Event> events_of(const EngineColumns& columns, std::size_t n) {
  const shortlist_column& items = columns.data()[0];
  std::vector<Event> events(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (items.texts != nullptr) {
      if (items.texts[i].size > 0) events[i].item.text = {items.texts[i].data, items.texts[i].size};
    } else {
      events[i].item.number = items.numbers[i];
    }
  }
  return events;
}

void append(const SessionHandle& session, const SharedBundle& bundle, std::size_t n,
            const py::list& items, const std::string& kind, std::optional<std::int64_t> time) {
  const EngineColumns columns(items);
  std::vector<Event> events = events_of(columns, n);
  for (Event& event : events) {
    event.kind = kind;
    event.time = time.value_or(engine::kNoTime);
  }
  const Released release;
  session.append(*bundle, events);
}

void forget(const SessionHandle& session, std::size_t n, const py::list& items) {
  const EngineColumns columns(items);
  const std::vector<Event> events = events_of(columns, n);
  const Released release;
  session.forget(events);
}

py::object user_of(const engine::SessionCounts& counts) {
  if (!counts.has_user) return py::none();
  return counts.user_text.empty() ? py::object(py::int_(counts.user_number))
                                  : py::object(py::str(counts.user_text));
}

py::tuple recommend(const SessionHandle& session, const SharedBundle& bundle,
                    const SharedCatalogue& catalogue, std::size_t top_n, bool exclude_seen,
                    int stages, std::optional<std::int64_t> now, const OptionalRagged& exclude,
                    const OptionalRagged& allow, const std::vector<std::optional<Flags>>& masks,
                    const std::optional<RowArray>& mask_of,
                    const std::optional<GivenVariety>& given_variety) {
  GivenCall asked(*catalogue, 1, py::list(), top_n, exclude_seen, stages, exclude, allow, masks,
                  mask_of);
  const CallVariety variety(1, catalogue->view().n_rows(), given_variety);
  asked.call.variety = variety.get();
  GivenAnswer answer(1, top_n);
  RowArray missing = variety.room_for_missing();
  engine::AnswerView view = answer.view();
  view.missing = missing.mutable_data();
  engine::SessionCounts counts;
  {
    const Released release;
    counts =
        session.recommend(*bundle, *catalogue, asked.call, now.value_or(engine::kNoTime), view);
  }
  return py::make_tuple(answer.scores, answer.rows, answer.counts, answer.sources, answer.stages,
                        missing, counts.n_given, counts.n_known, user_of(counts));
}

py::tuple report(const SessionHandle& session, const SharedBundle& bundle) {
  const engine::SessionReport said = session.report(*bundle);
  return py::make_tuple(said.has_state, said.why, said.n_items, said.n_steps, said.n_restarts,
                        said.n_bytes);
}

py::list history(const SessionHandle& session) {
  std::vector<std::int64_t> numbers;
  std::vector<std::string> texts;
  {
    const Released release;
    session.each_event([&](const Event& event) {
      if (event.item.text.empty()) {
        numbers.push_back(event.item.number);
      } else {
        texts.emplace_back(event.item.text);
      }
    });
  }
  return texts.empty() ? py::cast(numbers) : py::cast(texts);
}

SessionHandle get(SessionStore& store, const std::string& key, const SharedBundle& bundle,
                  const py::list& given) {
  const EngineColumns columns(given);
  engine::Call request;
  request.n_requests = 1;
  request.columns = columns.data();
  request.n_columns = columns.size();
  const Released release;
  return store.get(key, *bundle, request);
}

}  // namespace

void register_sessions(py::module_& module) {
  py::class_<SessionHandle>(module, "Session")
      .def("append", &append, py::arg("bundle"), py::arg("n_items"), py::arg("items"),
           py::arg("kind"), py::arg("time"))
      .def("forget", &forget, py::arg("n_items"), py::arg("items"))
      .def("recommend", &recommend, py::arg("bundle"), py::arg("catalogue"), py::arg("top_n"),
           py::arg("exclude_seen"), py::arg("stages"), py::arg("now"),
           py::arg("exclude") = py::none(), py::arg("allow") = py::none(),
           py::arg("masks") = py::list(), py::arg("mask_of") = py::none(),
           py::arg("variety") = py::none())
      .def("report", &report, py::arg("bundle"))
      .def("history", &history);
  py::class_<SessionStore, std::shared_ptr<SessionStore>>(module, "SessionStore")
      .def(py::init<std::size_t>(), py::arg("max_bytes"))
      .def("get", &get, py::arg("key"), py::arg("bundle"), py::arg("columns"))
      .def(
          "drop", [](SessionStore& store, const std::string& key) { return store.drop(key); },
          py::arg("key"), py::call_guard<Released>())
      .def(
          "has", [](const SessionStore& store, const std::string& key) { return store.has(key); },
          py::arg("key"), py::call_guard<Released>())
      .def_property_readonly("n_sessions", &SessionStore::size)
      .def_property_readonly("n_bytes", &SessionStore::n_bytes)
      .def_property_readonly("max_bytes", &SessionStore::max_bytes);
}

}  // namespace shortlist::bindings
