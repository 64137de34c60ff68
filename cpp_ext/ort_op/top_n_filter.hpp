// Which rows each query of a TopN node may return, from the node's inputs (top_n_kernel.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort_api.hpp"
#include "shortlist/filter.hpp"

namespace shortlist::ort_op {

class TopNFilter {
 public:
  // Borrows the node's inputs for the length of its run. Throws std::invalid_argument.
  TopNFilter(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries,
             std::size_t n_rows);

  // Of the queries from `first` on.
  Filter from(std::size_t first) const;

 private:
  void read_exclude(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries);
  void add_exclude(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries);
  void add_seen(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries);
  void read_allow(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries);
  void read_mask(const OrtApi& api, const OrtKernelContext* context, std::size_t n_rows);

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
  const unsigned char* mask_ = nullptr;
  std::size_t n_rows_ = 0;
};

}  // namespace shortlist::ort_op
