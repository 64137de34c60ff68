// A batch in which stored users are known: what its requests give, and where they give nothing what
// is stored (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/column_values.hpp"
#include "engine/columns.hpp"
#include "engine/stored_users.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

// The stored row of each of n_requests; empty if the call has no user_id or knows no user of it.
// `users` may be null. Throws std::invalid_argument for a column that is no such thing.
std::vector<std::int64_t> find_users(const StoredUsers* users, bool are_texts,
                                     const shortlist_column* columns, std::size_t n_columns,
                                     std::size_t n_requests);

class JoinedBatch {
 public:
  // Of requests first .. first + n. `user_rows` has a row for each of them, -1 = not known; at most
  // max_history items of a stored history, of those that the graph knows, are given to it.
  // `is_joined` (of the same requests, null = none) marks those whose own history has the stored
  // one in it. `present` are the items that are searched.
  JoinedBatch(const StoredUsers& users, const IndexView& known, const IndexView& present,
              std::size_t max_history, const std::vector<BoundColumn>& given,
              const std::int64_t* user_rows, const unsigned char* is_joined, std::size_t first,
              std::size_t n);
  JoinedBatch(const JoinedBatch&) = delete;
  JoinedBatch& operator=(const JoinedBatch&) = delete;

  // The same columns for requests 0 .. n.
  const std::vector<BoundColumn>& bound() const { return bound_; }
  // Present rows of the stored history of each request.
  const std::vector<std::int64_t>& seen() const { return seen_; }
  const std::vector<std::int64_t>& seen_splits() const { return seen_splits_; }
  // Whether the graph is given all that users have seen: no stored history is only left out of its
  // answers, nor longer than the graph looks at. @pre the items are as exported
  bool shows_all_seen() const;
  // Whether the history of request i is the stored one.
  bool is_stored(std::size_t i) const { return is_stored_[i]; }

 private:
  void find_stored(const BoundColumn& history);
  bool knows_some(const BoundColumn& history, std::size_t request) const;
  void join_history(const BoundColumn& column, ColumnValues* values);
  void join_feature(const BoundColumn& column, ColumnValues* values);
  void add_stored_event(std::size_t entry, std::int64_t newest, ColumnValues* values);

  const StoredUsers& users_;
  const IndexView& known_;
  const IndexView& present_;
  const std::int64_t* user_rows_;
  const unsigned char* is_joined_;
  std::size_t first_, n_, max_history_;
  std::vector<bool> is_stored_;
  std::vector<std::int64_t> seen_, seen_splits_ = {0};
  std::vector<std::vector<std::size_t>> entries_;  // of stored histories that are answered from
  std::deque<ColumnValues> values_;
  std::deque<shortlist_column> columns_;
  std::vector<BoundColumn> bound_;
};

}  // namespace shortlist::engine
