// LoadedBundle and Catalogue for Python: convert and call, nothing else.
#include "bindings/register_engine.hpp"

#include <pybind11/stl.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/call_variety.hpp"
#include "bindings/engine_columns.hpp"
#include "bindings/engine_report.hpp"
#include "bindings/given_call.hpp"
#include "bindings/ids.hpp"
#include "bindings/interpreter.hpp"
#include "bindings/ragged.hpp"
#include "engine/loaded_bundle.hpp"
#include "shortlist/background.hpp"

namespace shortlist::bindings {
namespace {

using engine::AnswerView;
using engine::BundleSettings;
using engine::Call;
using engine::Catalogue;
using engine::LoadedBundle;
using SharedBundle = std::shared_ptr<LoadedBundle>;
using SharedCatalogue = std::shared_ptr<Catalogue>;

// Opens and checks a bundle's files; beside requests on a thread that gives way to them.
engine::BundleFolder open_folder(const std::string& path, const std::string& name,
                                 bool check_hashes, bool under_load) {
  const std::function<void()> poll = Interruption();
  if (!under_load || !check_hashes) return engine::open_bundle(path, check_hashes, name, poll);
  engine::BundleFolder folder;
  std::atomic<bool> is_interrupted{false};
  const std::thread::id caller = std::this_thread::get_id();
  const auto stop_if_interrupted = [&] {
    if (std::this_thread::get_id() == caller) poll();             // there is no other
    if (is_interrupted) throw std::runtime_error("interrupted");  // nobody sees it
  };
  const auto poll_and_tell = [&] {
    try {
      poll();
    } catch (...) {
      is_interrupted = true;
      throw;
    }
  };
  run_in_background(
      [&] { folder = engine::open_bundle(path, check_hashes, name, stop_if_interrupted); },
      poll_and_tell);
  return folder;
}

// Closing sessions takes about a millisecond, in which Python's other threads need not wait.
void delete_without_interpreter(LoadedBundle* bundle) {
  if (PyGILState_Check() == 0) {
    delete bundle;
    return;
  }
  const Released release;
  delete bundle;
}

SharedBundle open(const std::string& path, const std::string& name, const std::string& runtime,
                  bool check_hashes, const std::string& device, std::size_t n_threads,
                  std::uint64_t number, bool under_load, std::size_t max_batch,
                  std::int64_t max_wait_us, const std::string& search,
                  const std::vector<std::size_t>& fixed_batches) {
  BundleSettings settings;
  settings.session.device = device;
  settings.session.n_threads = n_threads;
  settings.batching = {max_batch, max_wait_us};
  settings.search = search;
  settings.fixed_batches = engine::FixedBatches(fixed_batches);
  const Released release;
  const engine::Runtime library = engine::find_runtime(runtime.c_str());
  engine::BundleFolder folder = open_folder(path, name, check_hashes, under_load);
  SharedBundle bundle;
  const auto work = [&] {
    auto loaded = std::make_unique<LoadedBundle>(library, std::move(folder), settings, number);
    loaded->warm();
    bundle = SharedBundle(loaded.release(), delete_without_interpreter);
  };
  if (under_load && engine::may_give_way(library, settings.session)) {
    run_in_background(work);
  } else {
    work();
  }
  return bundle;
}

py::tuple recommend(const LoadedBundle& bundle, const SharedCatalogue& catalogue, std::size_t n,
                    const py::list& given, std::size_t top_n, bool exclude_seen, int stages,
                    const OptionalRagged& exclude, const OptionalRagged& allow,
                    const std::vector<std::optional<Flags>>& masks,
                    const std::optional<RowArray>& mask_of, const OptionalRagged& skipped,
                    const std::optional<Flags>& is_joined,
                    const std::optional<GivenVariety>& given_variety) {
  GivenCall asked(*catalogue, n, given, top_n, exclude_seen, stages, exclude, allow, masks,
                  mask_of);
  const CallVariety variety(n, catalogue->view().n_rows(), given_variety);
  asked.call.variety = variety.get();
  const std::optional<Ragged> skips = to_ragged(skipped);
  asked.call.skipped = ragged_rows(skips, n, "skipped");
  if (is_joined) {
    if (static_cast<std::size_t>(is_joined->size()) != n) {
      throw std::invalid_argument("is_joined: expected one flag a request");
    }
    asked.call.is_joined = reinterpret_cast<const unsigned char*>(is_joined->data());
  }
  GivenAnswer answer(n, top_n);
  RowArray missing = variety.room_for_missing();
  AnswerView view = answer.view();
  view.missing = missing.mutable_data();
  {
    const Released release;
    bundle.recommend(asked.call, *catalogue, view);
  }
  return py::make_tuple(answer.scores, answer.rows, answer.counts, answer.sources, answer.stages,
                        missing);
}

py::tuple explain(const LoadedBundle& bundle, const SharedCatalogue& catalogue, std::size_t n,
                  const py::list& given, std::size_t top_n, bool exclude_seen, int stages,
                  std::size_t n_reasons, std::size_t n_tried, const std::optional<RowArray>& groups,
                  const OptionalRagged& exclude, const OptionalRagged& allow,
                  const std::vector<std::optional<Flags>>& masks,
                  const std::optional<RowArray>& mask_of) {
  const GivenCall asked(*catalogue, n, given, top_n, exclude_seen, stages, exclude, allow, masks,
                        mask_of);
  engine::ReasonOptions options{n_reasons, n_tried, nullptr};
  if (groups) {
    if (static_cast<std::size_t>(groups->size()) != bundle.bundle().manifest.n_items) {
      throw std::invalid_argument("groups: expected one number an item of the bundle");
    }
    options.groups = groups->data();
  }
  GivenAnswer answer(n, top_n);
  py::array_t<std::int64_t> what({n, top_n, n_reasons});
  py::array_t<float> drops({n, top_n, n_reasons});
  py::array_t<bool> leaves({n, top_n, n_reasons});
  const AnswerView view = answer.view();
  const engine::ReasonsView reasons{what.mutable_data(), drops.mutable_data(),
                                    reinterpret_cast<unsigned char*>(leaves.mutable_data())};
  {
    const Released release;
    bundle.explain(asked.call, *catalogue, options, view, reasons);
  }
  return py::make_tuple(answer.scores, answer.rows, answer.counts, answer.sources, answer.stages,
                        what, drops, leaves);
}

std::vector<std::size_t> batch_starts(const LoadedBundle& bundle, std::size_t n,
                                      const py::list& given) {
  const EngineColumns columns(given);
  Call call;
  call.n_requests = n;
  call.columns = columns.data();
  call.n_columns = columns.size();
  return bundle.batch_starts(call);
}

FloatArray encode_users(const LoadedBundle& bundle, const SharedCatalogue& catalogue, std::size_t n,
                        const py::list& given) {
  const EngineColumns columns(given);
  Call call;
  call.n_requests = n;
  call.columns = columns.data();
  call.n_columns = columns.size();
  FloatArray embeddings({n, catalogue->view().dim()});
  float* const out = embeddings.mutable_data();
  {
    const Released release;
    bundle.encode_users(call, *catalogue, out);
  }
  return embeddings;
}

FloatArray encode_items(const LoadedBundle& bundle, std::size_t n, const py::list& given) {
  const EngineColumns columns(given);
  FloatArray embeddings({n, bundle.bundle().manifest.dim});
  float* const out = embeddings.mutable_data();
  {
    const Released release;
    bundle.encode_items(columns.data(), columns.size(), n, out);
  }
  return embeddings;
}

FloatArray score(const LoadedBundle& bundle, const SharedCatalogue& catalogue,
                 const py::list& given, const RowArray& rows, int stages) {
  if (rows.ndim() != 2) throw std::invalid_argument("rows: expected (n_requests, n)");
  const EngineColumns columns(given);
  Call call;
  call.n_requests = static_cast<std::size_t>(rows.shape(0));
  call.columns = columns.data();
  call.n_columns = columns.size();
  call.stages = stages;
  const auto n = static_cast<std::size_t>(rows.shape(1));
  FloatArray scores({call.n_requests, n});
  float* const out = scores.mutable_data();
  {
    const Released release;
    bundle.score(call, *catalogue, rows.data(), n, out);
  }
  return scores;
}

// `popular_ids` and `popularity`: scores of items for requests of which nothing is known.
template <class Ids>
SharedCatalogue upsert(LoadedBundle& bundle, const Ids& ids, const FloatArray& vectors,
                       const Ids& popular_ids, const FloatArray& popularity) {
  const ItemIds item_ids = ids_from(ids), scored_ids = ids_from(popular_ids);
  const MatrixView view = matrix_view(vectors, "vectors");
  if (static_cast<std::size_t>(popularity.size()) != scored_ids.size()) {
    throw std::invalid_argument("popularity: expected one number an item");
  }
  const engine::Popularity scores{scored_ids, popularity.data()};
  const Released release;
  return bundle.upsert(item_ids, view, &scores);
}

template <class Ids>
SharedCatalogue remove(LoadedBundle& bundle, const Ids& ids) {
  const ItemIds item_ids = ids_from(ids);
  const Released release;
  return bundle.remove(item_ids);
}

}  // namespace

void register_engine(py::module_& module) {
  py::class_<Catalogue, SharedCatalogue>(module, "Catalogue")
      .def_property_readonly("view", [](const Catalogue& catalogue) { return catalogue.view(); })
      .def_property_readonly("is_as_exported", &Catalogue::is_as_exported);
  py::class_<LoadedBundle, SharedBundle>(module, "LoadedBundle")
      .def_static("open", &open, py::arg("path"), py::arg("name"), py::arg("runtime"),
                  py::arg("check_hashes"), py::arg("device"), py::arg("n_threads"),
                  py::arg("number"), py::arg("under_load"), py::arg("max_batch") = 1,
                  py::arg("max_wait_us") = 200, py::arg("search") = "index",
                  py::arg("fixed_batches") = std::vector<std::size_t>())
      .def_property_readonly("index", [](const LoadedBundle& bundle) { return bundle.index(); })
      .def_property_readonly("catalogue", &LoadedBundle::catalogue)
      .def_property_readonly(
          "has_reranker", [](const LoadedBundle& bundle) { return bundle.graph().has_reranker(); })
      .def_property_readonly("inputs", &inputs)
      .def_property_readonly("sessions", &sessions)
      .def_property_readonly("batching", &batching)
      .def_property_readonly("n_inside", &n_inside)
      .def_property_readonly("graph_search", &graph_search)
      .def_property_readonly("n_graph_runs", &n_graph_runs)
      .def_property_readonly("fixed_batches", &fixed_batches)
      .def("open_item_encoder", &LoadedBundle::open_item_encoder, py::call_guard<Released>())
      .def("drain", &LoadedBundle::drain, py::call_guard<Released>())
      .def_property_readonly("runtime_version", &LoadedBundle::runtime_version)
      .def("stored_user", py::overload_cast<const LoadedBundle&, std::int64_t>(&stored_user),
           py::arg("user_id"))
      .def("stored_user", py::overload_cast<const LoadedBundle&, std::string_view>(&stored_user),
           py::arg("user_id"))
      .def("recommend", &recommend, py::arg("catalogue"), py::arg("n_requests"), py::arg("columns"),
           py::arg("top_n"), py::arg("exclude_seen"), py::arg("stages"),
           py::arg("exclude") = py::none(), py::arg("allow") = py::none(),
           py::arg("masks") = py::list(), py::arg("mask_of") = py::none(),
           py::arg("skipped") = py::none(), py::arg("is_joined") = py::none(),
           py::arg("variety") = py::none())
      .def("explain", &explain, py::arg("catalogue"), py::arg("n_requests"), py::arg("columns"),
           py::arg("top_n"), py::arg("exclude_seen"), py::arg("stages"), py::arg("n_reasons"),
           py::arg("n_tried"), py::arg("groups") = py::none(), py::arg("exclude") = py::none(),
           py::arg("allow") = py::none(), py::arg("masks") = py::list(),
           py::arg("mask_of") = py::none())
      .def("batch_starts", &batch_starts, py::arg("n_requests"), py::arg("columns"))
      .def("encode_users", &encode_users, py::arg("catalogue"), py::arg("n_requests"),
           py::arg("columns"))
      .def("encode_items", &encode_items, py::arg("n_items"), py::arg("columns"))
      .def("score", &score, py::arg("catalogue"), py::arg("columns"), py::arg("rows"),
           py::arg("stages"))
      .def("upsert", &upsert<RowArray>, py::arg("item_ids"), py::arg("vectors"),
           py::arg("popular_ids"), py::arg("popularity"))
      .def("upsert", &upsert<std::vector<std::string>>, py::arg("item_ids"), py::arg("vectors"),
           py::arg("popular_ids"), py::arg("popularity"))
      .def("remove", &remove<RowArray>, py::arg("item_ids"))
      .def("remove", &remove<std::vector<std::string>>, py::arg("item_ids"));
}

}  // namespace shortlist::bindings
