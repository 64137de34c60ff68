// Filters of a call to a bundle, from arrays of Python.
#pragma once

#include <pybind11/stl.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/ragged.hpp"
#include "shortlist/filter.hpp"

namespace shortlist::bindings {

using Flags = py::array_t<bool, py::array::c_style>;

// What requests may get, with the arrays it borrows.
class CallFilter {
 public:
  CallFilter(std::size_t n, std::size_t n_rows, const OptionalRagged& exclude,
             const OptionalRagged& allow, const std::vector<std::optional<Flags>>& masks,
             const std::optional<RowArray>& mask_of);

  const Filter& get() const { return filter_; }

 private:
  void check_numbers(std::size_t n) const;

  std::optional<Ragged> exclude_, allow_;
  std::vector<std::optional<Flags>> masks_;
  std::optional<RowArray> mask_of_;
  std::vector<const unsigned char*> pointers_;
  Filter filter_;
};

}  // namespace shortlist::bindings
