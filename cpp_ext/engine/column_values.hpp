// One column put together value by value, a request after the other (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/columns.hpp"

namespace shortlist::engine {

struct ColumnValues {
  explicit ColumnValues(const Input& of) : input(of) {}

  // Values of one request in a column of the same input.
  void add(const shortlist_column& given, Span span);
  void add_missing(std::size_t n);
  void end_request();
  // What was added; borrowed, so nothing may be added any more.
  shortlist_column column() const;

  const Input& input;
  std::vector<std::int64_t> numbers;
  std::vector<float> floats;
  std::vector<shortlist_text> texts;
  std::vector<std::int64_t> splits = {0};
};

}  // namespace shortlist::engine
