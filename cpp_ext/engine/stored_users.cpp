#include "engine/stored_users.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/mapped_file.hpp"
#include "shortlist/file_error.hpp"
#include "src/system/utf8.hpp"

namespace shortlist::engine {
namespace {

using Kind = ArrowColumn::Kind;
constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();

[[noreturn]] void throw_bad(const std::string& file, const std::string& expected,
                            const std::string& found) {
  throw FileError(file + ": expected " + expected + ", found " + found);
}

bool has_given(const ArrowColumn& column) {
  if (column.given == nullptr) return column.kind != Kind::none || column.n == 0;
  for (std::size_t i = 0; i < column.n; ++i) {
    if (!column.is_given(i)) return false;
  }
  return true;
}

bool are_integers(const ArrowColumn& column) {
  return column.kind == Kind::integer && (column.is_signed || column.n_bits < 64);
}

// Whether a stored column says what an input of the graph takes.
bool fits(const ArrowColumn& column, const Input& input, bool are_times) {
  if (column.kind == Kind::none) return true;
  const bool is_list = input.shape.size() == 2;
  if (is_list != (column.kind == Kind::list)) return false;
  const ArrowColumn& values = is_list ? column.values() : column;
  switch (input.type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING:
      return values.kind == Kind::text || values.kind == Kind::none ||
             (values.kind == Kind::boolean && !is_list);
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return (!is_list || input.shape[1] > 0) &&
             (values.kind == Kind::real || values.kind == Kind::none || are_integers(values));
    default:
      return are_integers(values) || values.kind == Kind::none ||
             (are_times ? values.kind == Kind::timestamp || values.kind == Kind::days
                        : values.kind == Kind::boolean && !is_list);
  }
}

shortlist_text text_of(std::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

StoredUsers::StoredUsers(const std::string& path, const std::string& name, const Manifest& manifest,
                         const std::vector<Input>& inputs)
    : name_(name) {
  const MappedFile file = map_file(path, name, "an Arrow IPC file");
  mapping_ = file.mapping;
  columns_ = read_arrow({name_, file.data(), file.size});
  const std::size_t n = columns_.empty() ? 0 : columns_[0].n;
  if (n != manifest.n_users) {
    throw_bad(name_, std::to_string(manifest.n_users) + " rows", std::to_string(n));
  }
  if (manifest.user_id_dtype.empty()) throw_bad(name_, "a user_id_dtype in the manifest", "none");
  if (n == 0) return;
  const bool has_texts = manifest.user_id_dtype == "string";
  ids_ = require("user_id", has_texts ? Kind::text : Kind::integer, Kind::none);
  history_ = require("history", Kind::list,
                     manifest.item_id_dtype == "string" ? Kind::text : Kind::integer);
  check_ids(has_texts);
  const auto has_input = [&inputs](const char* wanted) {
    return std::any_of(inputs.begin(), inputs.end(),
                       [wanted](const Input& input) { return input.name == wanted; });
  };
  check_events(has_input("history_kinds"), has_input("history_ages"));
  check_features(manifest, inputs);
}

const ArrowColumn* StoredUsers::require(const std::string& name, Kind kind, Kind values) const {
  const auto found =
      std::find_if(columns_.begin(), columns_.end(),
                   [&name](const ArrowColumn& column) { return column.name == name; });
  if (found == columns_.end()) throw_bad(name_, "a column '" + name + "'", "none");
  const auto is_right = [](const ArrowColumn& column, Kind wanted, std::size_t least_bits) {
    return column.kind == wanted && has_given(column) &&
           (wanted != Kind::integer || (column.is_signed && column.n_bits >= least_bits));
  };
  bool fits = is_right(*found, kind, 64);
  // Empty lists alone may be of any kind; whole numbers in lists may be short.
  if (fits && kind == Kind::list && found->values().n > 0) {
    fits = is_right(found->values(), values, 8);
  }
  if (!fits)
    throw_bad(name_, "column '" + name + "' of the manifest's type without nulls", "other");
  return &*found;
}

void StoredUsers::check_ids(bool has_texts) {
  if (!has_texts) {
    for (std::size_t i = 1; i < ids_->n; ++i) {
      if (ids_->integer_at(i) > ids_->integer_at(i - 1)) continue;
      throw_bad(name_, "user ids in ascending order", "another order");
    }
    return;
  }
  order_.resize(ids_->n);
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  const auto id = [this](std::int64_t row) { return ids_->text_at(static_cast<std::size_t>(row)); };
  const auto is_before = [&id](std::int64_t one, std::int64_t other) {
    return id(one) < id(other);
  };
  if (!std::is_sorted(order_.begin(), order_.end(), is_before)) {
    std::stable_sort(order_.begin(), order_.end(), is_before);
  }
}

void StoredUsers::check_events(bool has_kinds, bool has_times) {
  if (has_kinds) kinds_ = require("history_kinds", Kind::list, Kind::text);
  if (has_times) times_ = require("history_times", Kind::list, Kind::integer);
  for (const ArrowColumn* events : {kinds_, times_}) {
    for (std::size_t i = 0; events != nullptr && i <= history_->n; ++i) {
      if (events->begin(i) == history_->begin(i)) continue;
      throw_bad(name_, events->name + " entry by entry like history", "other lengths");
    }
  }
}

void StoredUsers::check_features(const Manifest& manifest, const std::vector<Input>& inputs) {
  for (const Input& input : inputs) {
    const auto found =
        std::find_if(columns_.begin(), columns_.end(),
                     [&input](const ArrowColumn& column) { return column.name == input.name; });
    if (is_history(input) || found == columns_.end()) continue;
    const auto ticks = manifest.time_ticks.find(input.name);
    const bool are_times = ticks != manifest.time_ticks.end();
    if (!fits(*found, input, are_times)) {
      problem_ = name_ + " has column '" + input.name +
                 "' in a form of an older release (such as times or tags in one text)";
      return;
    }
    if (input.shape.size() == 2 && input.shape[1] > 0 && found->kind == Kind::list) {
      for (std::size_t i = 0; i < found->n; ++i) {
        const std::size_t width = found->begin(i + 1) - found->begin(i);
        if (!found->is_given(i) || width == static_cast<std::size_t>(input.shape[1])) continue;
        throw_bad(name_, std::to_string(input.shape[1]) + " numbers in each '" + input.name + "'",
                  std::to_string(width) + " in row " + std::to_string(i));
      }
    }
    features_[input.name] = &*found;
    if (are_times) ticks_[input.name] = ticks->second;
  }
}

std::int64_t StoredUsers::row_of(std::int64_t id) const {
  std::size_t low = 0, high = ids_ == nullptr ? 0 : ids_->n;
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (ids_->integer_at(middle) < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const bool is_known = ids_ != nullptr && low < ids_->n && ids_->integer_at(low) == id;
  return is_known ? static_cast<std::int64_t>(low) : -1;
}

std::int64_t StoredUsers::row_of(std::string_view id) const {
  // Of equal ids the last one counts, as in Python.
  const auto above = std::upper_bound(
      order_.begin(), order_.end(), id, [this](std::string_view wanted, std::int64_t row) {
        return wanted < ids_->text_at(static_cast<std::size_t>(row));
      });
  if (above == order_.begin()) return -1;
  const std::int64_t row = *(above - 1);
  return ids_->text_at(static_cast<std::size_t>(row)) == id ? row : -1;
}

std::size_t StoredUsers::first_of(std::int64_t user) const {
  return history_->begin(static_cast<std::size_t>(user));
}

std::size_t StoredUsers::last_of(std::int64_t user) const {
  return history_->begin(static_cast<std::size_t>(user) + 1);
}

// The stored column of an input if the user has a value there, else null.
const ArrowColumn* StoredUsers::column_of(const Input& input, std::int64_t user) const {
  const auto found = features_.find(input.name);
  if (user < 0 || found == features_.end()) return nullptr;
  return found->second->is_given(static_cast<std::size_t>(user)) ? found->second : nullptr;
}

// A category, a tag, or a time in seconds since 1970.
std::int64_t StoredUsers::whole(const ArrowColumn& column, std::size_t row,
                                std::int64_t ticks) const {
  const std::int64_t value = column.integer_at(row);
  if (column.kind == Kind::days) return value * 86'400;
  if (column.kind == Kind::timestamp) return value / column.ticks;
  if (value == kMissing || ticks == 1) return value;
  return value / ticks - (value % ticks < 0 ? 1 : 0);  // rounded down, as Python does
}

void StoredUsers::add_numbers(const Input& input, std::int64_t user,
                              std::vector<std::int64_t>* to) const {
  const ArrowColumn* column = column_of(input, user);
  const auto row = static_cast<std::size_t>(user);
  if (input.shape.size() == 1) {
    const auto ticks = ticks_.find(input.name);
    to->push_back(column == nullptr
                      ? kMissing
                      : whole(*column, row, ticks == ticks_.end() ? 1 : ticks->second));
    return;
  }
  for (std::size_t i = 0; column != nullptr && column->begin(row) + i < column->begin(row + 1);
       ++i) {
    const std::size_t entry = column->begin(row) + i;
    if (column->values().is_given(entry)) to->push_back(column->values().integer_at(entry));
  }
}

void StoredUsers::add_floats(const Input& input, std::int64_t user, std::vector<float>* to) const {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  const ArrowColumn* column = column_of(input, user);
  const auto row = static_cast<std::size_t>(user);
  if (input.shape.size() == 1) {
    to->push_back(column == nullptr ? kNone : static_cast<float>(column->real_at(row)));
    return;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(input.shape[1]); ++i) {
    const std::size_t entry = column == nullptr ? 0 : column->begin(row) + i;
    const bool is_given = column != nullptr && column->values().is_given(entry);
    to->push_back(is_given ? static_cast<float>(column->values().real_at(entry)) : kNone);
  }
}

void StoredUsers::add_texts(const Input& input, std::int64_t user,
                            std::vector<shortlist_text>* to) const {
  const ArrowColumn* column = column_of(input, user);
  const auto row = static_cast<std::size_t>(user);
  if (input.shape.size() == 1) {
    std::string_view text;
    if (column != nullptr && column->kind == Kind::boolean) {
      text = column->integer_at(row) != 0 ? "true" : "false";
    } else if (column != nullptr) {
      text = column->text_at(row);
    }
    to->push_back(text_of(text));
    return;
  }
  for (std::size_t i = 0; column != nullptr && column->begin(row) + i < column->begin(row + 1);
       ++i) {
    const std::size_t entry = column->begin(row) + i;
    if (column->values().is_given(entry)) to->push_back(text_of(column->values().text_at(entry)));
  }
}

}  // namespace shortlist::engine
