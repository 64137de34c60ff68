// Index, IndexView and IndexBuilder for Python: convert and call, nothing else.
#include "bindings/register_index.hpp"

#include <pybind11/stl.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/call_variety.hpp"
#include "bindings/ids.hpp"
#include "bindings/interpreter.hpp"
#include "bindings/ragged.hpp"
#include "shortlist/index.hpp"

namespace shortlist::bindings {
namespace {

// Lets other threads have the interpreter unless the work is short: under load a caller waits
// longer to get it back than some microseconds of work take.
class Release {
 public:
  explicit Release(bool is_short) {
    if (!is_short) release_.emplace();
  }

 private:
  std::optional<Released> release_;
};

// Ids that are looked up in about 10 microseconds, well below what a caller of
// benchmarks/callers.py waits for the interpreter.
constexpr std::size_t kShortList = 1024;

using OptionalMask = std::optional<py::array_t<bool, py::array::c_style>>;

py::tuple search(const IndexView& index, const FloatArray& queries, std::size_t top_n,
                 const OptionalRagged& exclude, const OptionalRagged& allow,
                 const std::optional<RowArray>& allow_rows, const OptionalMask& allow_mask,
                 std::size_t n_threads, const std::optional<GivenVariety>& given,
                 const std::optional<GivenChosen>& chosen) {
  const MatrixView view = matrix_view(queries, "queries");
  const auto excluded = to_ragged(exclude);
  const auto allowed = to_ragged(allow);
  Filter filter;
  filter.exclude = ragged_rows(excluded, view.n_rows, "exclude");
  filter.allow = ragged_rows(allowed, view.n_rows, "allow");
  if (allow_rows) {
    filter.allow_rows = allow_rows->data();
    filter.n_allow_rows = static_cast<std::size_t>(allow_rows->size());
  }
  if (allow_mask) {
    if (static_cast<std::size_t>(allow_mask->size()) != index.n_rows()) {
      throw std::invalid_argument("allow: mask length must be the number of rows");
    }
    filter.allow_mask = reinterpret_cast<const unsigned char*>(allow_mask->data());
  }
  CallVariety variety(view.n_rows, index.n_rows(), given);
  variety.set_chosen(chosen, view.dim);
  check_size(view.n_rows, top_n, index.n_rows());
  py::array_t<float> scores({view.n_rows, top_n});
  py::array_t<std::int64_t> rows({view.n_rows, top_n});
  py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(view.n_rows));
  RowArray missing = variety.room_for_missing();
  const SearchOutput output{scores.mutable_data(), rows.mutable_data(), counts.mutable_data(),
                            missing.mutable_data()};
  {
    // Threads that only search would keep the interpreter from others for 5 ms at a time.
    const Released release;
    const std::function<void()> between = Interruption();
    index.search(view, top_n, filter, variety.get(), n_threads, output, &between);
  }
  return py::make_tuple(scores, rows, counts, missing);
}

// Ids of rows: an int64 array of the same shape, or a flat list of str.
py::object ids_of(const IndexView& view, const RowArray& rows) {
  const std::int64_t* in = rows.data();
  const std::size_t n_rows = static_cast<std::size_t>(rows.size());
  if (view.id_kind() == ItemIds::Kind::string) {
    py::list strings(n_rows);
    for (std::size_t i = 0; i < n_rows; ++i) {
      const std::string_view text = view.string_of(in[i]);
      strings[i] = py::str(text.data(), text.size());
    }
    return strings;
  }
  RowArray ids(std::vector<py::ssize_t>(rows.shape(), rows.shape() + rows.ndim()));
  view.ids_of(in, n_rows, ids.mutable_data());
  return ids;
}

// Python keeps the UTF-8 of a str, so that no string is copied.
RowArray rows_of_strings(const IndexView& view, const py::list& ids) {
  RowArray rows(static_cast<py::ssize_t>(ids.size()));
  std::int64_t* out = rows.mutable_data();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Py_ssize_t size = 0;
    PyObject* id = PyList_GET_ITEM(ids.ptr(), static_cast<Py_ssize_t>(i));
    if (!PyUnicode_Check(id)) throw py::type_error("ids: expected a list of str");
    const char* text = PyUnicode_AsUTF8AndSize(id, &size);
    if (text == nullptr) PyErr_Clear();  // half a surrogate pair: no index holds such an id
    out[i] =
        text == nullptr ? -1 : view.row_of(std::string_view(text, static_cast<std::size_t>(size)));
  }
  return rows;
}

RowArray rows_of_int64(const IndexView& view, const RowArray& ids) {
  RowArray rows(ids.size());
  const std::int64_t* in = ids.data();
  std::int64_t* out = rows.mutable_data();
  const auto n_ids = static_cast<std::size_t>(ids.size());
  const Release release(n_ids <= kShortList);
  view.rows_of(in, n_ids, out);
  return rows;
}

FloatArray vectors(const IndexView& view, const RowArray& rows) {
  const std::size_t n_rows = static_cast<std::size_t>(rows.size());
  FloatArray out({n_rows, view.dim()});
  view.copy_vectors(rows.data(), n_rows, out.mutable_data());
  return out;
}

Index slice(const IndexView& view, std::size_t first, std::size_t end) {
  if (first > end || end > view.n_rows()) {
    throw std::invalid_argument("slice: expected first <= end <= n_rows");
  }
  const Released release;
  return view.slice(first, end);
}

py::bytes to_bytes(const IndexView& view) {
  std::string bytes;
  {
    const Released release;
    bytes = view.to_bytes();
  }
  return py::bytes(bytes);
}

Index from_bytes(const std::string& name, const py::bytes& bytes) {
  const auto data = static_cast<std::string_view>(bytes);
  const Released release;
  return Index::from_bytes(name, data.data(), data.size());
}

template <class Ids>
void upsert(Index& index, const Ids& ids, const FloatArray& vectors) {
  const ItemIds item_ids = ids_from(ids);
  const MatrixView view = matrix_view(vectors, "vectors");
  const Released release;
  index.upsert(item_ids, view);
}

template <class Ids>
std::size_t remove(Index& index, const Ids& ids) {
  const ItemIds item_ids = ids_from(ids);
  const Released release;
  return index.remove(item_ids);
}

void sample(IndexBuilder& builder, const FloatArray& queries, const RowArray& rows) {
  const MatrixView view = matrix_view(queries, "queries");
  if (static_cast<std::size_t>(rows.size()) != view.n_rows) {
    throw std::invalid_argument("rows: expected one row number per query");
  }
  builder.sample(view, rows.data());
}

void add(IndexBuilder& builder, const FloatArray& rows) {
  const MatrixView view = matrix_view(rows, "vectors");
  const Released release;
  builder.add(view);
}

Index finish_row_numbers(IndexBuilder& builder, std::size_t n_items) {
  return builder.finish(ItemIds::row_numbers(n_items));
}

template <class Ids>
Index finish(IndexBuilder& builder, const Ids& ids) {
  return builder.finish(ids_from(ids));
}

Index with_storage(const IndexView& view, Storage storage) {
  const Released release;
  return view.with_storage(storage);
}

void register_views(py::module_& module) {
  py::class_<IndexMemory>(module, "IndexMemory")
      .def_readonly("codes", &IndexMemory::codes)
      .def_readonly("rows", &IndexMemory::rows)
      .def_readonly("mapped_codes", &IndexMemory::mapped_codes)
      .def_readonly("mapped_rows", &IndexMemory::mapped_rows)
      .def_readonly("rows_on_disk", &IndexMemory::rows_on_disk)
      .def_readonly("ids", &IndexMemory::ids);
  py::class_<IndexView>(module, "IndexView")
      .def_property_readonly("metric", &IndexView::metric)
      .def_property_readonly("storage", &IndexView::storage)
      .def_property_readonly("recall", &IndexView::recall)
      .def_property_readonly("dim", &IndexView::dim)
      .def_property_readonly("n_items", &IndexView::n_items)
      .def_property_readonly("n_rows", &IndexView::n_rows)
      .def_property_readonly("generation", &IndexView::generation)
      .def_property_readonly(
          "has_string_ids",
          [](const IndexView& view) { return view.id_kind() == ItemIds::Kind::string; })
      .def("ids_of", &ids_of, py::arg("rows"))
      .def("search", &search, py::arg("queries"), py::arg("top_n"), py::arg("exclude"),
           py::arg("allow"), py::arg("allow_rows"), py::arg("allow_mask"), py::arg("n_threads"),
           py::arg("variety") = py::none(), py::arg("chosen") = py::none())
      .def("rows_of_int64", &rows_of_int64, py::arg("ids"))
      .def("rows_of_strings", &rows_of_strings, py::arg("ids"))
      .def("vectors", &vectors, py::arg("rows"))
      .def("to_bytes", &to_bytes)
      .def("with_storage", &with_storage, py::arg("storage"))
      .def("memory", &IndexView::memory)
      .def("slice", &slice, py::arg("first"), py::arg("end"))
      .def("save", &IndexView::save, py::arg("path"), py::call_guard<Released>());
}

}  // namespace

void register_index(py::module_& module) {
  py::enum_<Metric>(module, "Metric")
      .value("cosine", Metric::cosine)
      .value("dot", Metric::dot)
      .value("euclidean", Metric::euclidean);
  py::enum_<Storage> storages(module, "Storage");
  for (std::size_t i = 0; i < kStorages; ++i) {
    storages.value(kStorageNames[i], static_cast<Storage>(i));
  }
  register_views(module);
  py::class_<Index>(module, "Index")
      .def("view", &Index::view)
      .def("upsert_int64", &upsert<RowArray>, py::arg("ids"), py::arg("vectors"))
      .def("upsert_strings", &upsert<std::vector<std::string>>, py::arg("ids"), py::arg("vectors"))
      .def("remove_int64", &remove<RowArray>, py::arg("ids"))
      .def("remove_strings", &remove<std::vector<std::string>>, py::arg("ids"))
      .def_static(
          "load",
          [](const std::string& path, bool use_mmap) { return Index::load(path, use_mmap); },
          py::arg("path"), py::arg("use_mmap"), py::call_guard<Released>())
      .def_static("join", &Index::join, py::arg("parts"), py::call_guard<Released>())
      .def_static("from_bytes", &from_bytes, py::arg("name"), py::arg("data"));
  py::class_<IndexBuilder>(module, "IndexBuilder")
      .def(py::init<std::size_t, std::size_t, Metric, Storage>(), py::arg("n_items"),
           py::arg("dim"), py::arg("metric"), py::arg("storage"))
      .def("sample", &sample, py::arg("queries"), py::arg("rows"))
      .def("add", &add, py::arg("rows"))
      .def("finish_row_numbers", &finish_row_numbers, py::arg("n_items"))
      .def("finish_int64", &finish<RowArray>, py::arg("ids"))
      .def("finish_strings", &finish<std::vector<std::string>>, py::arg("ids"));
}

}  // namespace shortlist::bindings
