// Requests of the C ABI, checked and turned into the engine's.
#include <cstddef>
#include <stdexcept>
#include <string>

#include "c_api/engine_handle.hpp"
#include "c_api/names.hpp"
#include "shortlist/limits.hpp"

namespace shortlist::c_api {
namespace {

void check_top_n(const shortlist_requests& requests, std::size_t n_items) {
  check_places(requests.n_requests, requests.top_n, n_items);
  if (requests.top_n > n_items && requests.n_requests > kMaxEmptyPlaces / requests.top_n) {
    throw std::invalid_argument("top_n: got " + std::to_string(requests.top_n) + " for " +
                                std::to_string(requests.n_requests) +
                                " requests; an answer of that size would fill the memory, and the "
                                "bundle has " +
                                std::to_string(n_items) + " items: ask for at most as many");
  }
}

void check_stages(const engine::LoadedBundle& bundle, std::int32_t stages) {
  if (stages < 0 || stages > 2) {
    throw std::invalid_argument("requests.stages: got " + std::to_string(stages) +
                                "; expected 1, 2, or 0 for all that the bundle has");
  }
  if (stages == 2 && !bundle.graph().has_reranker()) {
    throw std::invalid_argument("requests.stages: got 2, but " + bundle.bundle().name +
                                " has no second stage; expected 1, or 0 for all that it has");
  }
}

}  // namespace

shortlist_requests known_requests(const shortlist_requests* requests) {
  constexpr std::size_t kFirst = offsetof(shortlist_requests, filter);  // of ABI version 2
  return known_fields(requests, "requests", kFirst);
}

CheckedRequests::CheckedRequests(const engine::LoadedBundle& bundle, const IndexView& view,
                                 const shortlist_requests& requests) {
  check_top_n(requests, view.n_rows());
  check_stages(bundle, requests.stages);
  if (requests.n_columns > 0) check_pointer(requests.columns, "columns", "n_columns columns");
  shortlist_filter filter{};
  if (requests.filter != nullptr) filter = known_filter(requests.filter);
  for (const shortlist_ids* ids : {filter.exclude, filter.allow, requests.skipped}) {
    if (ids != nullptr && ids->rows != nullptr) check_rows(view, ids->rows, ids->n);
  }
  filter_ = std::make_unique<CheckedFilter>(view, requests.n_requests, filter);
  call_.n_requests = requests.n_requests;
  call_.columns = requests.columns;
  call_.n_columns = requests.n_columns;
  call_.top_n = requests.top_n;
  call_.exclude_seen = requests.include_seen == 0;
  call_.stages = requests.stages;
  call_.filter = filter_->filter();
  set_variety(view, requests, filter.variety);
  if (requests.skipped != nullptr) set_skipped(view, requests);
}

void CheckedRequests::set_variety(const IndexView& view, const shortlist_requests& requests,
                                  const shortlist_variety* given) {
  variety_ =
      std::make_unique<CheckedVariety>(view, requests.n_requests, requests.top_n, given, true);
  call_.variety = variety_->get();
}

void CheckedRequests::set_skipped(const IndexView& view, const shortlist_requests& requests) {
  check_pointer(requests.skipped_splits, "requests.skipped_splits", "n_requests + 1 splits");
  skipped_ = Rows(view, *requests.skipped, "requests.skipped");
  check_splits(requests.skipped_splits, requests.n_requests, skipped_.size(), "requests.skipped");
  call_.skipped = {skipped_.data(), requests.skipped_splits};
}

}  // namespace shortlist::c_api
