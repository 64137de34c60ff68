// shortlist_view_search: filters in, hits out.
#include <cstddef>
#include <vector>

#include "c_api/arguments.hpp"
#include "c_api/checked_filter.hpp"
#include "c_api/checked_variety.hpp"
#include "c_api/guard.hpp"
#include "c_api/names.hpp"

namespace shortlist::c_api {
namespace {

// The caller's array, or one of our own where the caller wants none.
template <class T>
T* or_own(T* given, std::vector<T>& own, std::size_t size) {
  if (given != nullptr) return given;
  own.resize(size);
  return own.data();
}

void search(const IndexView& view, const MatrixView& queries, std::size_t top_n,
            const shortlist_filter* given, std::size_t n_threads, const shortlist_hits& hits) {
  check_places(queries.n_rows, top_n, view.n_rows());
  check_wanted_ids(view, hits.numbers, hits.texts);
  shortlist_filter filter{};
  if (given != nullptr) filter = known_filter(given);
  const CheckedFilter checked(view, queries.n_rows, filter);
  const CheckedVariety variety(view, queries.n_rows, top_n, filter.variety, false);
  const std::size_t n_places = queries.n_rows * top_n;
  std::vector<float> scores;
  std::vector<std::int64_t> rows, counts;
  const SearchOutput output{or_own(hits.scores, scores, n_places),
                            or_own(hits.rows, rows, n_places),
                            or_own(hits.counts, counts, queries.n_rows), hits.missing};
  view.search(queries, top_n, checked.filter(), variety.get(), n_threads, output);
  write_ids(view, output.rows, n_places, hits.numbers, hits.texts);
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist::c_api;

shortlist_status shortlist_view_search(const shortlist_view* view, const float* queries,
                                       size_t n_queries, size_t dim, size_t top_n,
                                       const shortlist_filter* filter, size_t n_threads,
                                       const shortlist_hits* hits, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(view, "view", kViewHandle);
    check_pointer(hits, "hits", "the address of a shortlist_hits");
    constexpr std::size_t kFirst = offsetof(shortlist_hits, missing);  // of ABI version 4
    search(view->view, matrix_of(queries, n_queries, dim, "queries"), top_n, filter, n_threads,
           known_fields(hits, "hits", kFirst));
  });
}
