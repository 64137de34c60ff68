// What lists have to look like as a whole, from arrays of Python.
#pragma once

#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "bindings/arrays.hpp"
#include "shortlist/variety.hpp"

namespace shortlist::bindings {

using CountArray = py::array_t<std::int32_t, py::array::c_style>;
// Values, and splits or None.
using GivenColumn = std::tuple<CountArray, std::optional<RowArray>>;
using DoubleArray = py::array_t<double, py::array::c_style>;
using FlagArray = py::array_t<bool, py::array::c_style>;
// A column, strengths (n,), splits (n + 1), values and shares, and whether shares are those of the
// history (n,).
using GivenCalibration =
    std::tuple<GivenColumn, DoubleArray, RowArray, CountArray, DoubleArray, FlagArray>;
// Terms by row, and weights (n,).
using GivenDampening = std::tuple<DoubleArray, DoubleArray>;
// Columns, at_most (n, n_columns), masks of quotas, at_least (n, n_quotas), diversity (n,) or None,
// and the two above or None.
using GivenVariety = std::tuple<std::vector<GivenColumn>, CountArray, std::vector<FlagArray>,
                                CountArray, std::optional<DoubleArray>,
                                std::optional<GivenCalibration>, std::optional<GivenDampening>>;

// Vectors (n_chosen, dim) and splits (n + 1).
using GivenChosen =
    std::tuple<py::array_t<float, py::array::c_style | py::array::forcecast>, RowArray>;

// A variety of the core, with the arrays it borrows.
class CallVariety {
 public:
  CallVariety(std::size_t n, std::size_t n_rows, const std::optional<GivenVariety>& given);

  // Items above each list, as Variety::chosen.
  void set_chosen(const std::optional<GivenChosen>& chosen, std::size_t dim);

  const Variety& get() const { return variety_; }
  // Zeros (n, n_quotas).
  RowArray room_for_missing() const;

 private:
  void check_column(const GivenColumn& column, std::size_t n_rows) const;
  void set_calibration(const GivenCalibration& given, std::size_t n_rows);
  void set_dampening(const GivenDampening& given, std::size_t n_rows);

  std::size_t n_;
  std::optional<GivenVariety> given_;
  std::optional<GivenChosen> chosen_;
  std::vector<GroupColumn> columns_;
  std::vector<const unsigned char*> quotas_;
  Variety variety_;
};

}  // namespace shortlist::bindings
