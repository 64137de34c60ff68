// Calls with one request each as one call of all (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/batcher.hpp"
#include "engine/column_values.hpp"

namespace shortlist::engine {

class MergedCall {
 public:
  // Of requests that want the same of one catalogue, bound to the same inputs; they are borrowed.
  // What one of them does not give is missing there.
  explicit MergedCall(const std::vector<const SingleRequest*>& requests);
  MergedCall(const MergedCall&) = delete;
  MergedCall& operator=(const MergedCall&) = delete;

  const Call& call() const { return call_; }
  const std::vector<BoundColumn>& bound() const { return bound_; }
  const std::vector<std::int64_t>& user_rows() const { return user_rows_; }
  // Room for the answer of all.
  AnswerView answer();
  // Gives each request its part of it.
  void hand_out() const;

 private:
  void merge_column(std::size_t number);
  void merge_lists();

  const std::vector<const SingleRequest*>& requests_;
  Call call_;
  std::deque<ColumnValues> values_;
  std::deque<shortlist_column> columns_;
  std::vector<BoundColumn> bound_;
  std::vector<std::int64_t> user_rows_;
  std::vector<std::int64_t> skipped_, skipped_splits_;
  std::vector<unsigned char> is_joined_;
  std::vector<float> scores_;
  std::vector<std::int64_t> rows_, counts_, sources_;
  std::vector<std::int8_t> stages_;
};

}  // namespace shortlist::engine
