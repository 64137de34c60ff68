// Lists of rows of Python, (values, splits), as the core takes them; and room for answers.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "bindings/arrays.hpp"
#include "shortlist/filter.hpp"

namespace shortlist::bindings {

using OptionalRagged = std::optional<std::pair<RowArray, RowArray>>;

struct Ragged {  // keeps the arrays alive while the core reads them
  RowArray values;
  RowArray splits;
};

RaggedRows ragged_rows(const std::optional<Ragged>& ragged, std::size_t n_queries,
                       const char* name);
std::optional<Ragged> to_ragged(const OptionalRagged& pair);

// Refuses an answer whose bytes do not fit a signed 64-bit number, before NumPy is asked for it.
void check_size(std::size_t n_queries, std::size_t top_n, std::size_t n_rows);

}  // namespace shortlist::bindings
