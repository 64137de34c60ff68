#include "bindings/engine_columns.hpp"

#include "bindings/arrays.hpp"

namespace shortlist::bindings {
namespace {

// Python keeps the UTF-8 of a str, so that no text is copied. Half a surrogate pair has none: it
// counts as missing, as no bundle knows such a value.
std::vector<shortlist_text> texts_of(const py::array& objects) {
  const auto* const values = static_cast<PyObject* const*>(objects.data());
  std::vector<shortlist_text> texts(static_cast<std::size_t>(objects.size()));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (!PyUnicode_Check(values[i])) throw py::type_error("columns: expected arrays of str");
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(values[i], &size);
    if (text == nullptr) {
      PyErr_Clear();
      size = 0;
    }
    texts[i] = {text, static_cast<std::size_t>(size)};
  }
  return texts;
}

}  // namespace

EngineColumns::EngineColumns(const py::list& given) {
  columns_.reserve(given.size());
  for (const py::handle& column : given) add(py::reinterpret_borrow<py::tuple>(column));
}

void EngineColumns::add(const py::tuple& given) {
  shortlist_column column{};
  column.name = names_.emplace_back(given[0].cast<std::string>()).c_str();
  const auto values = given[1].cast<py::array>();
  if ((values.flags() & py::array::c_style) == 0) {
    throw std::invalid_argument("columns: expected contiguous arrays");
  }
  owners_.push_back(values);
  switch (values.dtype().kind()) {
    case 'i':
      column.numbers = static_cast<const std::int64_t*>(values.data());
      break;
    case 'f':
      column.floats = static_cast<const float*>(values.data());
      break;
    default:
      column.texts = texts_.emplace_back(texts_of(values)).data();
  }
  if (!given[2].is_none()) {
    const auto splits = given[2].cast<RowArray>();
    owners_.push_back(splits);
    column.splits = splits.data();
  } else if (values.ndim() == 2) {
    column.width = static_cast<std::size_t>(values.shape(1));
  }
  columns_.push_back(column);
}

}  // namespace shortlist::bindings
