#include "joined.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

namespace shortlist::engine {
namespace {

constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();

bool is_text(const Input& input) {
  return input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
}

bool is_float(const Input& input) {
  return input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

std::string_view text_of(const shortlist_column& column, std::size_t i) {
  const shortlist_text& text = column.texts[i];
  if (text.size == 0) return {};
  if (text.data == nullptr) {
    throw std::invalid_argument("columns: " + std::string(column.name) +
                                ": got NULL for a text of " + std::to_string(text.size) +
                                " bytes; expected the address of its bytes");
  }
  return {text.data, text.size};
}

// Whether the caller says anything at this place.
bool is_given(const BoundColumn& column, std::size_t i) {
  if (is_text(*column.input)) return column.given->texts[i].size > 0;
  if (is_float(*column.input)) return !std::isnan(column.given->floats[i]);
  return column.given->numbers[i] != kMissing;
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
  std::vector<std::int64_t> rows(n_requests, -1);
  if (users == nullptr) return {};
  for (std::size_t i = 0; i < n_requests; ++i) {
    rows[i] = are_texts ? users->row_of(text_of(*ids, i)) : users->row_of(ids->numbers[i]);
  }
  if (std::all_of(rows.begin(), rows.end(), [](std::int64_t row) { return row < 0; })) return {};
  if (!users->problem().empty()) {
    throw std::invalid_argument("columns: user_id: " + users->problem() +
                                "; expected a bundle without it: give histories and features, or "
                                "store lists and times in place of texts and export again");
  }
  return rows;
}

JoinedBatch::JoinedBatch(const StoredUsers& users, const IndexView& index, std::size_t max_history,
                         const std::vector<BoundColumn>& given, const std::int64_t* user_rows,
                         std::size_t first, std::size_t n)
    : users_(users),
      index_(index),
      user_rows_(user_rows),
      first_(first),
      n_(n),
      max_history_(max_history),
      is_stored_(n),
      entries_(n) {
  for (const BoundColumn& column : given) {
    if (column.input->name == "history") find_stored(column);
  }
  for (const BoundColumn& column : given) {
    Values& values = values_.emplace_back();
    if (is_history(*column.input)) {
      join_history(column, &values);
    } else {
      join_feature(column, &values);
    }
    add_column(column, &values);
  }
}

// Whether the request gives an item that the bundle knows: then it is answered from its own.
bool JoinedBatch::knows_some(const BoundColumn& history, std::size_t request) const {
  if (history.given == nullptr) return false;
  const auto [from, size] = place_of(*history.given, request);
  for (std::size_t i = from; i < from + size; ++i) {
    const std::int64_t row = is_text(*history.input) ? index_.row_of(text_of(*history.given, i))
                                                     : index_.row_of(history.given->numbers[i]);
    if (row >= 0) return true;
  }
  return false;
}

void JoinedBatch::find_stored(const BoundColumn& history) {
  for (std::size_t i = 0; i < n_; ++i) {
    std::vector<std::size_t> known;
    if (user_rows_[i] >= 0) {
      const ArrowColumn& items = users_.items();
      for (std::size_t k = users_.first_of(user_rows_[i]); k < users_.last_of(user_rows_[i]); ++k) {
        const std::int64_t row = is_text(*history.input) ? index_.row_of(items.text_at(k))
                                                         : index_.row_of(items.integer_at(k));
        if (row < 0) continue;
        seen_.push_back(row);
        known.push_back(k);
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

void JoinedBatch::add_stored_event(const Input& input, std::size_t entry, std::int64_t newest,
                                   Values* values) {
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

void JoinedBatch::join_history(const BoundColumn& column, Values* values) {
  const bool has_ages = column.input->name == "history_ages";
  for (std::size_t i = 0; i < n_; ++i) {
    if (is_stored_[i]) {
      const std::size_t last = users_.last_of(user_rows_[i]);
      const std::int64_t newest = has_ages ? users_.time_at(last - 1) : 0;
      for (const std::size_t entry : entries_[i]) {
        add_stored_event(*column.input, entry, newest, values);
      }
    } else if (column.given != nullptr) {
      add_given(column, place_of(*column.given, first_ + i), values);
    }
    end_request(*column.input, values);
  }
}

// What is stored takes the place of what the request does not give.
void JoinedBatch::join_feature(const BoundColumn& column, Values* values) {
  const Input& input = *column.input;
  for (std::size_t i = 0; i < n_; ++i) {
    Place place{0, 0};
    if (column.given != nullptr) place = place_of(*column.given, first_ + i);
    bool is_there = false;
    for (std::size_t k = place.from; k < place.from + place.size && !is_there; ++k) {
      is_there = is_given(column, k);
    }
    if (is_there) {
      add_given(column, place, values);
    } else if (is_text(input)) {
      users_.add_texts(input, user_rows_[i], &values->texts);
    } else if (is_float(input)) {
      users_.add_floats(input, user_rows_[i], &values->floats);
    } else {
      users_.add_numbers(input, user_rows_[i], &values->numbers);
    }
    end_request(input, values);
  }
}

void JoinedBatch::add_given(const BoundColumn& column, Place place, Values* values) const {
  const auto append = [&place](const auto* from, auto* to) {
    to->insert(to->end(), from + place.from, from + place.from + place.size);
  };
  if (place.size == 0) return;
  if (is_text(*column.input)) {
    append(column.given->texts, &values->texts);
  } else if (is_float(*column.input)) {
    append(column.given->floats, &values->floats);
  } else {
    append(column.given->numbers, &values->numbers);
  }
}

void JoinedBatch::end_request(const Input& input, Values* values) {
  const std::size_t n = is_text(input)    ? values->texts.size()
                        : is_float(input) ? values->floats.size()
                                          : values->numbers.size();
  values->splits.push_back(static_cast<std::int64_t>(n));
}

void JoinedBatch::add_column(const BoundColumn& column, Values* values) {
  const Input& input = *column.input;
  shortlist_column& made = columns_.emplace_back();
  made.name = input.name.c_str();
  made.numbers = values->numbers.data();
  made.floats = values->floats.data();
  made.texts = values->texts.data();
  const bool is_ragged = input.shape.size() == 2 && input.shape[1] < 0;
  if (is_ragged) made.splits = values->splits.data();
  if (input.shape.size() == 2 && !is_ragged) made.width = static_cast<std::size_t>(input.shape[1]);
  bound_.push_back({&input, &made});
}

}  // namespace shortlist::engine
