#include "bindings/engine_report.hpp"

#include <pybind11/stl.h>

#include <vector>

#include "bindings/interpreter.hpp"

namespace shortlist::bindings {

namespace py = pybind11;
using engine::LoadedBundle;
using namespace pybind11::literals;

namespace {

const char* name_of(decltype(engine::Input::type) type) {
  return type == engine::kNumber  ? "tensor(int64)"
         : type == engine::kFloat ? "tensor(float)"
         : type == engine::kText  ? "tensor(string)"
                                  : "another type";
}

py::object stored_events(const engine::StoredUsers* users, std::int64_t user) {
  if (user < 0) return py::none();
  py::list items, kinds, times;
  const engine::ArrowColumn& values = users->items();
  for (std::size_t i = users->first_of(user); i < users->last_of(user); ++i) {
    if (values.kind == engine::ArrowColumn::Kind::text) {
      const std::string_view text = values.text_at(i);
      items.append(py::str(text.data(), text.size()));
    } else {
      items.append(values.integer_at(i));
    }
    if (users->has_kinds()) {
      const std::string_view kind = users->kind_at(i);
      kinds.append(py::str(kind.data(), kind.size()));
    }
    if (users->has_times()) times.append(users->time_at(i));
  }
  return py::make_tuple(items, kinds, times);
}

}  // namespace

py::dict inputs(const LoadedBundle& bundle) {
  py::dict found;
  for (const engine::Input& input : bundle.graph().inputs()) {
    found[py::str(input.name)] = name_of(input.type);
  }
  return found;
}

py::object stored_user(const LoadedBundle& bundle, std::int64_t id) {
  const engine::StoredUsers* const users = bundle.users();
  return stored_events(users, users == nullptr ? -1 : users->row_of(id));
}

py::object stored_user(const LoadedBundle& bundle, std::string_view id) {
  const engine::StoredUsers* const users = bundle.users();
  return stored_events(users, users == nullptr ? -1 : users->row_of(id));
}

py::list sessions(const LoadedBundle& bundle) {
  py::list found;
  std::vector<const engine::Session*> open;
  {
    const Released release;  // one that is being opened is waited for
    open = bundle.sessions();
  }
  for (const engine::Session* session : open) {
    found.append(py::make_tuple(session->name(), session->provider(), session->nodes()));
  }
  return found;
}

py::object batching(const LoadedBundle& bundle) {
  const engine::Batcher* const batcher = bundle.batcher();
  if (batcher == nullptr) return py::none();
  const engine::BatchCounts counts = batcher->counts();
  return py::dict("max_batch"_a = batcher->settings().max_batch,
                  "max_wait_us"_a = batcher->settings().max_wait_us,
                  "n_requests"_a = counts.n_requests, "n_batches"_a = counts.n_batches);
}

std::size_t n_inside(const LoadedBundle& bundle) {
  return bundle.batcher() == nullptr ? 0 : bundle.batcher()->counts().n_inside;
}

py::object graph_search(const LoadedBundle& bundle) {
  if (bundle.portable() == nullptr) return py::none();
  const engine::FasterWay& way = bundle.portable()->way();
  py::dict from_batch, times;
  for (const auto& [size, chosen] : way.from_batch()) {
    from_batch[py::int_(size)] = chosen == engine::FasterWay::Way::graph ? "graph" : "index";
  }
  for (const auto& [size, measured] : way.times_us()) {
    times[py::int_(size)] = py::dict("index"_a = measured.index, "graph"_a = measured.graph);
  }
  return py::dict("from_batch"_a = from_batch, "times_us"_a = times);
}

std::uint64_t n_graph_runs(const LoadedBundle& bundle) {
  return bundle.portable() == nullptr ? 0 : bundle.portable()->n_runs();
}

py::object fixed_batches(const LoadedBundle& bundle) {
  const std::vector<std::size_t>& sizes = bundle.fixed_batches().sizes();
  if (sizes.empty()) return py::none();
  const bool has_device = bundle.graph().session().has_device();
  return py::dict("batches"_a = sizes, "io_binding"_a = false,
                  "cuda_graphs"_a = has_device ? "no: look-ups and search run on the CPU"
                                               : "no: the graph is not on CUDA");
}

}  // namespace shortlist::bindings
