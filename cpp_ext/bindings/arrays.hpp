// NumPy <-> core views. Checks repeat briefly what python/shortlist/_checks.py says at length.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "shortlist/matrix_view.hpp"

namespace shortlist::bindings {

namespace py = pybind11;

using FloatArray = py::array_t<float, py::array::c_style>;
using RowArray = py::array_t<std::int64_t, py::array::c_style>;

// The array must outlive the view.
inline MatrixView matrix_view(const FloatArray& array, const char* name) {
  if (array.ndim() != 2) {
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(array.ndim()) +
                                " dimensions; expected 2");
  }
  return {array.data(), static_cast<std::size_t>(array.shape(0)),
          static_cast<std::size_t>(array.shape(1))};
}

}  // namespace shortlist::bindings
