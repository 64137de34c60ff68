// shortlist_variety, checked and turned into the core's.
#pragma once

#include <cstddef>
#include <vector>

#include "shortlist/index.hpp"
#include "shortlist/shortlist.h"
#include "shortlist/variety.hpp"

namespace shortlist::c_api {

// A variety of the core, and what it borrows. Throws std::invalid_argument as arguments.hpp says.
class CheckedVariety {
 public:
  // `given`: null = none.
  // `has_histories`: queries are requests, which may be calibrated to theirs.
  CheckedVariety(const IndexView& view, std::size_t n_queries, std::size_t top_n,
                 const shortlist_variety* given, bool has_histories);
  CheckedVariety(const CheckedVariety&) = delete;
  CheckedVariety& operator=(const CheckedVariety&) = delete;

  const Variety& get() const { return variety_; }

 private:
  void set_calibration(const shortlist_variety& known, std::size_t n_queries, bool has_histories);
  void set_dampening(const shortlist_variety& known, std::size_t n_queries);

  std::vector<GroupColumn> columns_;
  Variety variety_;
};

// The fields that a host's header knows; the others are zero.
shortlist_filter known_filter(const shortlist_filter* filter);

}  // namespace shortlist::c_api
