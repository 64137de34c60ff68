// The border of the C ABI: every function's body runs inside guarded(), which turns exceptions into
// a status and a message.
#pragma once

#include "shortlist/index.hpp"
#include "shortlist/shortlist.h"

// The handles of shortlist.h.
struct shortlist_index {
  shortlist::Index index;
};
struct shortlist_view {
  shortlist::IndexView view;
};

namespace shortlist::c_api {

// Of the exception that is being handled. Allocates nothing. `error` may be null.
shortlist_status report_exception(shortlist_error* error) noexcept;
shortlist_status report_success(shortlist_error* error) noexcept;

template <class Body>
shortlist_status guarded(shortlist_error* error, const Body& body) noexcept {
  try {
    body();
    return report_success(error);
  } catch (...) {
    return report_exception(error);
  }
}

}  // namespace shortlist::c_api
