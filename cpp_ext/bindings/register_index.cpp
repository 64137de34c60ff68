// Index, IndexBuilder and ItemIds for Python: convert and call, nothing else.
#include "register_index.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "arrays.hpp"
#include "shortlist/index.hpp"

namespace shortlist::bindings {
namespace {

struct Ragged {  // keeps the arrays alive while the core reads them
  RowArray values;
  RowArray splits;
};

RaggedRows ragged_rows(const std::optional<Ragged>& ragged, std::size_t n_queries,
                       const char* name) {
  if (!ragged) return {};
  const RowArray& splits = ragged->splits;
  if (splits.ndim() != 1 || static_cast<std::size_t>(splits.shape(0)) != n_queries + 1) {
    throw std::invalid_argument(std::string(name) + ": row_splits must have n_queries + 1 = " +
                                std::to_string(n_queries + 1) + " entries");
  }
  const std::int64_t* data = splits.data();
  bool is_valid = data[0] == 0 && data[n_queries] == ragged->values.size();
  for (std::size_t i = 0; i < n_queries; ++i) is_valid = is_valid && data[i] <= data[i + 1];
  if (!is_valid) {
    throw std::invalid_argument(std::string(name) +
                                ": row_splits must ascend from 0 to the number of values");
  }
  return {ragged->values.data(), data};
}

std::optional<Ragged> to_ragged(const std::optional<std::pair<RowArray, RowArray>>& pair) {
  if (!pair) return std::nullopt;
  return Ragged{pair->first, pair->second};
}

py::tuple search(const Index& index, const FloatArray& queries, std::size_t top_n,
                 const std::optional<std::pair<RowArray, RowArray>>& exclude,
                 const std::optional<std::pair<RowArray, RowArray>>& allow,
                 const std::optional<RowArray>& allow_rows,
                 const std::optional<py::array_t<bool, py::array::c_style>>& allow_mask,
                 std::size_t n_threads) {
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
    if (static_cast<std::size_t>(allow_mask->size()) != index.n_items()) {
      throw std::invalid_argument("allow: mask length must be the number of items");
    }
    filter.allow_mask = reinterpret_cast<const unsigned char*>(allow_mask->data());
  }
  py::array_t<float> scores({view.n_rows, top_n});
  py::array_t<std::int64_t> rows({view.n_rows, top_n});
  py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(view.n_rows));
  const SearchOutput output{scores.mutable_data(), rows.mutable_data(), counts.mutable_data()};
  {
    py::gil_scoped_release release;
    index.search(view, top_n, filter, n_threads, output);
  }
  return py::make_tuple(scores, rows, counts);
}

ItemIds ids_from_strings(const std::vector<std::string>& strings) {
  std::string bytes;
  std::vector<std::int64_t> offsets = {0};
  offsets.reserve(strings.size() + 1);
  for (const std::string& text : strings) {
    bytes += text;
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  return ItemIds::from_strings(std::move(bytes), std::move(offsets));
}

py::object ids_to_python(const ItemIds& ids) {
  if (ids.kind() == ItemIds::Kind::string) {
    py::list strings(ids.size());
    for (std::size_t row = 0; row < ids.size(); ++row) {
      const std::string_view text = ids.string_at(row);
      strings[row] = py::str(text.data(), text.size());
    }
    return strings;
  }
  py::array_t<std::int64_t> values(static_cast<py::ssize_t>(ids.size()));
  std::int64_t* out = values.mutable_data();
  for (std::size_t row = 0; row < ids.size(); ++row) out[row] = ids.int64_at(row);
  return values;
}

template <class Id>
RowArray rows_of(const Index& index, const std::vector<Id>& ids) {
  RowArray rows(static_cast<py::ssize_t>(ids.size()));
  std::int64_t* out = rows.mutable_data();
  for (std::size_t i = 0; i < ids.size(); ++i) out[i] = index.item_ids().row_of(ids[i]);
  return rows;
}

RowArray rows_of_int64(const Index& index, const RowArray& ids) {
  RowArray rows(ids.size());
  const std::int64_t* in = ids.data();
  std::int64_t* out = rows.mutable_data();
  const py::ssize_t n_ids = ids.size();
  py::gil_scoped_release release;
  for (py::ssize_t i = 0; i < n_ids; ++i) out[i] = index.item_ids().row_of(in[i]);
  return rows;
}

FloatArray vectors(const Index& index, const RowArray& rows) {
  const std::size_t n_rows = static_cast<std::size_t>(rows.size());
  FloatArray out({n_rows, index.dim()});
  for (std::size_t i = 0; i < n_rows; ++i) {
    const std::int64_t row = rows.data()[i];
    if (row < 0 || static_cast<std::size_t>(row) >= index.n_items()) {
      throw std::invalid_argument("rows: got " + std::to_string(row) + "; the index has " +
                                  std::to_string(index.n_items()) + " rows");
    }
    const float* source = index.vector(static_cast<std::size_t>(row));
    std::copy(source, source + index.dim(), out.mutable_data() + i * index.dim());
  }
  return out;
}

}  // namespace

void register_index(py::module_& module) {
  py::enum_<Metric>(module, "Metric")
      .value("cosine", Metric::cosine)
      .value("dot", Metric::dot)
      .value("euclidean", Metric::euclidean);
  py::class_<Index>(module, "Index")
      .def_property_readonly("metric", &Index::metric)
      .def_property_readonly("dim", &Index::dim)
      .def_property_readonly("n_items", &Index::n_items)
      .def_property_readonly(
          "has_string_ids",
          [](const Index& index) { return index.item_ids().kind() == ItemIds::Kind::string; })
      .def_property_readonly("item_ids",
                             [](const Index& index) { return ids_to_python(index.item_ids()); })
      .def("search", &search)
      .def("rows_of_int64", &rows_of_int64)
      .def("rows_of_strings", &rows_of<std::string>)
      .def("vectors", &vectors)
      .def("save", &Index::save, py::call_guard<py::gil_scoped_release>())
      .def_static("load", &Index::load, py::call_guard<py::gil_scoped_release>());
  py::class_<IndexBuilder>(module, "IndexBuilder")
      .def(py::init<std::size_t, std::size_t, Metric>())
      .def("add",
           [](IndexBuilder& builder, const FloatArray& rows) {
             const MatrixView view = matrix_view(rows, "vectors");
             py::gil_scoped_release release;
             builder.add(view);
           })
      .def("finish_row_numbers",
           [](IndexBuilder& builder, std::size_t n_items) {
             return builder.finish(ItemIds::row_numbers(n_items));
           })
      .def("finish_int64",
           [](IndexBuilder& builder, const RowArray& ids) {
             return builder.finish(ItemIds::from_int64({ids.data(), ids.data() + ids.size()}));
           })
      .def("finish_strings", [](IndexBuilder& builder, const std::vector<std::string>& ids) {
        return builder.finish(ids_from_strings(ids));
      });
}

}  // namespace shortlist::bindings
