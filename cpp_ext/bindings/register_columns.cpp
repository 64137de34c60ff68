// Columns of Python objects, read at once where every value has the expected type.
#include "bindings/register_columns.hpp"

#include "bindings/arrays.hpp"

namespace shortlist::bindings {
namespace {

// Rows of a column of lists: each a list or tuple (borrowed), or None.
bool is_list_or_none(PyObject* row) {
  return row == Py_None || PyList_CheckExact(row) || PyTuple_CheckExact(row);
}

// All values of lists of int one after another, and how many each list has (None: 0). None where a
// row is no list, or a value no int or past 64 bits.
py::object flat_int_lists(const py::sequence& column) {
  const py::object rows =
      py::reinterpret_steal<py::object>(PySequence_Fast(column.ptr(), "expected a list"));
  if (!rows) throw py::error_already_set();
  const Py_ssize_t n_rows = PySequence_Fast_GET_SIZE(rows.ptr());
  PyObject* const* const row_at = PySequence_Fast_ITEMS(rows.ptr());
  RowArray lengths(n_rows);
  std::int64_t* const length_at = lengths.mutable_data();
  Py_ssize_t n_values = 0;
  for (Py_ssize_t i = 0; i < n_rows; ++i) {
    if (!is_list_or_none(row_at[i])) return py::none();
    const Py_ssize_t length = row_at[i] == Py_None ? 0 : PySequence_Fast_GET_SIZE(row_at[i]);
    length_at[i] = length;
    n_values += length;
  }
  RowArray flat(n_values);
  std::int64_t* out = flat.mutable_data();
  for (Py_ssize_t i = 0; i < n_rows; ++i) {
    if (row_at[i] == Py_None) continue;
    PyObject* const* const values = PySequence_Fast_ITEMS(row_at[i]);
    for (std::int64_t k = 0; k < length_at[i]; ++k) {
      if (!PyLong_CheckExact(values[k])) return py::none();  // bool is no int here
      int overflow = 0;
      *out++ = PyLong_AsLongLongAndOverflow(values[k], &overflow);
      if (overflow != 0) return py::none();
    }
  }
  return py::make_tuple(flat, lengths);
}

}  // namespace

void register_columns(py::module_& module) {
  module.def("flat_int_lists", &flat_int_lists, py::arg("rows"));
}

}  // namespace shortlist::bindings
