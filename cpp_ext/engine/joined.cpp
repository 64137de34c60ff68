#include "engine/joined.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

namespace shortlist::engine {
namespace {

bool is_text(const Input& input) {
  return input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
}

bool is_float(const Input& input) {
  return input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

const shortlist_column* find_column(const shortlist_column* columns, std::size_t n_columns) {
  const shortlist_column* found = nullptr;
  for (std::size_t i = 0; i < n_columns; ++i) {
    if (columns[i].name == nullptr || columns[i].name != std::string_view(kUserId)) continue;
    if (found != nullptr) {
      throw std::invalid_argument("columns: user_id: got it twice; expected each column once");
    }
    found = columns + i;
  }
  return found;
}

}  // namespace

std::vector<std::int64_t> find_users(const StoredUsers* users, bool are_texts,
                                     const shortlist_column* columns, std::size_t n_columns,
                                     std::size_t n_requests) {
  const shortlist_column* ids = find_column(columns, n_columns);
  if (ids == nullptr) return {};
  const bool is_right = (are_texts ? ids->texts != nullptr : ids->numbers != nullptr) &&
                        (ids->numbers != nullptr) + (ids->texts != nullptr) == 1 &&
                        ids->floats == nullptr && ids->splits == nullptr && ids->width <= 1;
  if (!is_right && n_requests > 0) {
    throw std::invalid_argument(std::string("columns: user_id: got other values; expected ") +
                                (are_texts ? "texts" : "numbers") +
                                ", one a request, as this bundle's users have");
  }
  if (users == nullptr) return {};
  std::vector<std::int64_t> rows(n_requests, -1);
  for (std::size_t i = 0; i < n_requests; ++i) {
    rows[i] = are_texts ? users->row_of(text_of(*ids, i)) : users->row_of(ids->numbers[i]);
  }
  if (std::all_of(rows.begin(), rows.end(), [](std::int64_t row) { return row < 0; })) return {};
  if (!users->problem().empty()) {
    throw std::invalid_argument("columns: user_id: " + users->problem() +
                                "; expected lists and times in place of texts: export the run "
                                "again, or give histories and features");
  }
  return rows;
}

JoinedBatch::JoinedBatch(const StoredUsers& users, const IndexView& known, const IndexView& present,
                         std::size_t max_history, const std::vector<BoundColumn>& given,
                         const std::int64_t* user_rows, const unsigned char* is_joined,
                         std::size_t first, std::size_t n)
    : users_(users),
      known_(known),
      present_(present),
      user_rows_(user_rows),
      is_joined_(is_joined),
      first_(first),
      n_(n),
      max_history_(max_history),
      is_stored_(n),
      entries_(n) {
  for (const BoundColumn& column : given) {
    if (column.input->name == "history") find_stored(column);
  }
  for (const BoundColumn& column : given) {
    ColumnValues& values = values_.emplace_back(*column.input);
    if (is_history(*column.input)) {
      join_history(column, &values);
    } else {
      join_feature(column, &values);
    }
    bound_.push_back({column.input, &columns_.emplace_back(values.column())});
  }
}

bool JoinedBatch::shows_all_seen() const {
  for (std::size_t i = 0; i < n_; ++i) {
    const auto n_seen = static_cast<std::size_t>(seen_splits_[i + 1] - seen_splits_[i]);
    if (n_seen > entries_[i].size()) return false;
  }
  return true;
}

// Whether the request gives an item that the bundle knows: then it is answered from its own.
bool JoinedBatch::knows_some(const BoundColumn& history, std::size_t request) const {
  if (history.given == nullptr) return false;
  const auto [from, size] = span_of(*history.given, request);
  for (std::size_t i = from; i < from + size; ++i) {
    if (row_in(known_, history, i) >= 0) return true;
  }
  return false;
}

void JoinedBatch::find_stored(const BoundColumn& history) {
  for (std::size_t i = 0; i < n_; ++i) {
    std::vector<std::size_t> known;
    const bool has_own = is_joined_ != nullptr && is_joined_[i] != 0;
    if (user_rows_[i] >= 0 && !has_own) {
      const ArrowColumn& items = users_.items();
      const auto row_of = [&](const IndexView& index, std::size_t k) {
        return is_text(*history.input) ? index.row_of(items.text_at(k))
                                       : index.row_of(items.integer_at(k));
      };
      for (std::size_t k = users_.first_of(user_rows_[i]); k < users_.last_of(user_rows_[i]); ++k) {
        const std::int64_t row = row_of(present_, k);
        if (row >= 0) seen_.push_back(row);
        if (row_of(known_, k) >= 0) known.push_back(k);
      }
    }
    seen_splits_.push_back(static_cast<std::int64_t>(seen_.size()));
    is_stored_[i] = !known.empty() && !knows_some(history, first_ + i);
    if (!is_stored_[i]) continue;
    known.erase(known.begin(),
                known.end() - static_cast<std::ptrdiff_t>(std::min(known.size(), max_history_)));
    entries_[i] = std::move(known);
  }
}

void JoinedBatch::add_stored_event(std::size_t entry, std::int64_t newest, ColumnValues* values) {
  const Input& input = values->input;
  if (input.name == "history_kinds") {
    const std::string_view kind = users_.kind_at(entry);
    values->texts.push_back({kind.data(), kind.size()});
  } else if (input.name == "history_ages") {
    values->floats.push_back(static_cast<float>(newest - users_.time_at(entry)));
  } else if (is_text(input)) {
    const std::string_view id = users_.items().text_at(entry);
    values->texts.push_back({id.data(), id.size()});
  } else {
    values->numbers.push_back(users_.items().integer_at(entry));
  }
}

void JoinedBatch::join_history(const BoundColumn& column, ColumnValues* values) {
  const bool has_ages = column.input->name == "history_ages";
  for (std::size_t i = 0; i < n_; ++i) {
    if (is_stored_[i]) {
      const std::size_t last = users_.last_of(user_rows_[i]);
      const std::int64_t newest = has_ages ? users_.time_at(last - 1) : 0;
      for (const std::size_t entry : entries_[i]) {
        add_stored_event(entry, newest, values);
      }
    } else if (column.given != nullptr) {
      values->add(*column.given, span_of(*column.given, first_ + i));
    }
    values->end_request();
  }
}

// What is stored takes the place of what the request does not give.
void JoinedBatch::join_feature(const BoundColumn& column, ColumnValues* values) {
  const Input& input = *column.input;
  for (std::size_t i = 0; i < n_; ++i) {
    Span span{0, 0};
    if (column.given != nullptr) span = span_of(*column.given, first_ + i);
    bool is_there = false;
    for (std::size_t k = span.from; k < span.from + span.size && !is_there; ++k) {
      is_there = is_given(column, k);
    }
    if (is_there) {
      values->add(*column.given, span);
    } else if (is_text(input)) {
      users_.add_texts(input, user_rows_[i], &values->texts);
    } else if (is_float(input)) {
      users_.add_floats(input, user_rows_[i], &values->floats);
    } else {
      users_.add_numbers(input, user_rows_[i], &values->numbers);
    }
    values->end_request();
  }
}

}  // namespace shortlist::engine
