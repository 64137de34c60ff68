// shortlist_filter, checked and turned into the core's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "c_api/arguments.hpp"
#include "shortlist/filter.hpp"
#include "shortlist/index.hpp"
#include "shortlist/shortlist.h"

namespace shortlist::c_api {

// Throws std::invalid_argument unless n_queries + 1 splits ascend from 0 to n_values, those of
// `name`.
void check_splits(const std::int64_t* splits, std::size_t n_queries, std::size_t n_values,
                  const std::string& name);

// A filter of the core, and what it borrows. Throws std::invalid_argument as arguments.hpp says.
class CheckedFilter {
 public:
  CheckedFilter(const IndexView& view, std::size_t n_queries, const shortlist_filter& given);
  CheckedFilter(const CheckedFilter&) = delete;
  CheckedFilter& operator=(const CheckedFilter&) = delete;

  const Filter& filter() const { return filter_; }

 private:
  void set_exclude(const IndexView& view, std::size_t n_queries, const shortlist_filter& given);
  void set_allow(const IndexView& view, std::size_t n_queries, const shortlist_filter& given);
  void set_mask(std::size_t n_rows, std::size_t n_queries, const shortlist_filter& given);

  Filter filter_;
  Rows exclude_;
  Rows allow_;
  std::vector<const unsigned char*> masks_;
  std::vector<std::int64_t> mask_of_;
};

}  // namespace shortlist::c_api
