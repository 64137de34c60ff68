// Rows to the shop's ids, for search and shortlist_view_ids_of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shortlist/index.hpp"
#include "shortlist/shortlist.h"

namespace shortlist::c_api {

constexpr const char* kViewHandle = "a view of shortlist_index_view";

// Throws std::invalid_argument for one that is not below n_rows; negative ones are let through.
void check_rows(const IndexView& view, const std::int64_t* rows, std::size_t n);

// Throws std::invalid_argument if numbers are asked for and the index has texts, or the other way.
void check_wanted_ids(const IndexView& view, const void* numbers, const void* texts);

// @pre check_rows and check_wanted_ids passed. Either output may be null.
void write_ids(const IndexView& view, const std::int64_t* rows, std::size_t n,
               std::int64_t* numbers, shortlist_text* texts);

}  // namespace shortlist::c_api
