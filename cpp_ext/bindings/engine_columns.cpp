#include "bindings/engine_columns.hpp"

#include <algorithm>

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

// Texts as Arrow holds them: the i-th is bytes offsets[i] to offsets[i + 1].
std::vector<shortlist_text> texts_of(const RowArray& offsets, const py::array& bytes) {
  const std::int64_t* const ends = offsets.data();
  const auto n = static_cast<std::size_t>(offsets.size());
  const bool is_right =
      n > 0 && ends[0] >= 0 && std::is_sorted(ends, ends + n) && ends[n - 1] <= bytes.nbytes();
  if (!is_right) throw std::invalid_argument("columns: expected offsets that ascend in the bytes");
  const auto* const data = static_cast<const char*>(bytes.data());
  std::vector<shortlist_text> texts(n - 1);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    texts[i] = {data + ends[i], static_cast<std::size_t>(ends[i + 1] - ends[i])};
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
  if (py::isinstance<py::tuple>(given[1])) {
    const auto texts = py::reinterpret_borrow<py::tuple>(given[1]);
    const auto offsets = texts[0].cast<RowArray>();
    owners_.push_back(texts);
    column.texts = texts_.emplace_back(texts_of(offsets, texts[1].cast<py::array>())).data();
  } else {
    add_values(given[1].cast<py::array>(), &column);
  }
  if (!given[2].is_none()) {
    const auto splits = given[2].cast<RowArray>();
    owners_.push_back(splits);
    column.splits = splits.data();
  }
  columns_.push_back(column);
}

void EngineColumns::add_values(const py::array& values, shortlist_column* column) {
  if ((values.flags() & py::array::c_style) == 0) {
    throw std::invalid_argument("columns: expected contiguous arrays");
  }
  owners_.push_back(values);
  switch (values.dtype().kind()) {
    case 'i':
      column->numbers = static_cast<const std::int64_t*>(values.data());
      break;
    case 'f':
      column->floats = static_cast<const float*>(values.data());
      break;
    default:
      column->texts = texts_.emplace_back(texts_of(values)).data();
  }
  if (values.ndim() == 2) column->width = static_cast<std::size_t>(values.shape(1));
}

}  // namespace shortlist::bindings
