// Numbers that no index takes (internal).
#pragma once

#include <cstddef>

#include "shortlist/matrix_view.hpp"
#include "shortlist/storage.hpp"

namespace shortlist {

// Index of the first row with a NaN or an infinity, or n_rows.
std::size_t first_bad_row(const MatrixView& rows);
[[noreturn]] void throw_not_finite(std::size_t row);
// Throws std::invalid_argument if the storage has no room for so many columns.
void check_dim(std::size_t dim, Storage storage);
[[noreturn]] void throw_out_of_range(std::size_t row, Storage storage);

}  // namespace shortlist
