// Values of columns: read one by one, and put together to a column, a request after the other
// (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/columns.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

// The i-th text of a column. Throws std::invalid_argument for one without an address.
std::string_view text_of(const shortlist_column& column, std::size_t i);
// Whether the caller gives the i-th value. @pre column.given is not null
bool is_given(const BoundColumn& column, std::size_t i);
// The row of the i-th item of a history, -1 = not known. @pre history.given is not null
std::int64_t row_in(const IndexView& index, const BoundColumn& history, std::size_t i);

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
