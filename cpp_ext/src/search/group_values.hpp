// The values of an item in a column of groups (internal).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "shortlist/variety.hpp"

namespace shortlist {

// Calls use(value) for the values of a row, each once.
template <class Use>
void each_value(const GroupColumn& column, std::int64_t row, const Use& use) {
  const auto r = static_cast<std::size_t>(row);
  const std::int32_t* begin = column.values + (column.splits == nullptr ? row : column.splits[r]);
  const std::int32_t* const end =
      column.splits == nullptr ? begin + 1 : column.values + column.splits[r + 1];
  for (const std::int32_t* value = begin; value != end; ++value) {
    if (*value >= 0 && std::find(begin, value, *value) == value) use(*value);
  }
}

}  // namespace shortlist
