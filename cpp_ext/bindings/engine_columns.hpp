// Columns of NumPy arrays as the engine takes them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <deque>
#include <string>
#include <vector>

#include "shortlist/shortlist.h"

namespace shortlist::bindings {

// Of a list of (name, values, splits or None): values int64, float32, or object (str), flat with
// splits, else (n,) or (n, width); contiguous. Or texts as Arrow holds them: (offsets, bytes).
// Keeps the arrays, and borrows their texts.
class EngineColumns {
 public:
  explicit EngineColumns(const pybind11::list& given);
  EngineColumns(const EngineColumns&) = delete;
  EngineColumns& operator=(const EngineColumns&) = delete;

  const shortlist_column* data() const { return columns_.data(); }
  std::size_t size() const { return columns_.size(); }

 private:
  void add(const pybind11::tuple& given);
  void add_values(const pybind11::array& values, shortlist_column* column);

  std::deque<std::string> names_;
  std::deque<std::vector<shortlist_text>> texts_;
  std::vector<pybind11::object> owners_;
  std::vector<shortlist_column> columns_;
};

}  // namespace shortlist::bindings
