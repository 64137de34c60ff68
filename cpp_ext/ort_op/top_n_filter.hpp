// Which rows each query of a TopN node may return, from the node's inputs (top_n_kernel.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort_op/ort_api.hpp"
#include "shortlist/filter.hpp"

namespace shortlist::ort_op {

class TopNFilter {
 public:
  // Borrows the node's inputs, which are of n_queries, and `call` (null = none), for the length of
  // its run. Of the queries only the first n_searched have a filter. Throws std::invalid_argument.
  TopNFilter(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries,
             std::size_t n_searched, std::size_t n_rows, const Filter* call);

  const Filter& filter() const { return filter_; }

 private:
  // Lists of rows to exclude, one a query: flat with splits, or in a matrix of `width` columns.
  struct Lists {
    const std::int64_t* values;
    const std::int64_t* splits;  // null = a matrix
    std::size_t width;
    std::int64_t offset;  // what a value is above its row
  };

  void read_exclude(std::size_t n_queries);
  void read_also_exclude(std::size_t n_queries);
  void read_seen(std::size_t n_queries);
  void join_lists(std::size_t n_queries);
  void read_allow(std::size_t n_queries);
  void read_mask(std::size_t n_rows);

  const OrtApi& api_;
  const OrtKernelContext* context_;
  std::vector<Lists> lists_;
  Filter filter_;
  std::vector<std::int64_t> values_, splits_;  // of exclude, where it is put together here
};

// What one query may return, row by row, for lists that are not searched.
class AllowedRows {
 public:
  AllowedRows(const Filter& filter, std::size_t query, std::size_t n_rows);
  bool contains(std::int64_t row) const;

 private:
  std::vector<std::int64_t> excluded_, allowed_;  // sorted
  bool has_list_ = false;
  const unsigned char* mask_ = nullptr;  // null = every row
  std::size_t n_rows_ = 0;
};

}  // namespace shortlist::ort_op
