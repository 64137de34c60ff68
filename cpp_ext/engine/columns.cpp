#include "engine/columns.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>

#include "shortlist/limits.hpp"

namespace shortlist::engine {
namespace {

[[noreturn]] void throw_bad(const std::string& column, const std::string& got,
                            const std::string& expected) {
  throw std::invalid_argument("columns: " + column + ": got " + got + "; expected " + expected);
}

const void* values_of(const shortlist_column& column, ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING:
      return column.texts;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return column.floats;
    default:
      return column.numbers;
  }
}

const char* field_of(ONNXTensorElementDataType type) {
  return type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING  ? "texts"
         : type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? "floats"
                                                       : "numbers";
}

void check_splits(const shortlist_column& column, std::size_t n_requests) {
  const std::int64_t* splits = column.splits;
  bool is_valid = splits[0] == 0;
  for (std::size_t i = 0; i < n_requests && is_valid; ++i) {
    is_valid = splits[i + 1] >= splits[i] &&
               static_cast<std::size_t>(splits[i + 1] - splits[i]) <= kMaxWidth;
  }
  if (!is_valid) {
    throw_bad(column.name, "splits that do not ascend from 0, or a list of more than 2^24 values",
              "n_requests + 1 splits, each list as long as its values");
  }
}

void check_column(const Input& input, const shortlist_column& column, std::size_t n_requests) {
  const int n_kinds =
      (column.numbers != nullptr) + (column.floats != nullptr) + (column.texts != nullptr);
  const bool is_empty =
      n_requests == 0 || (column.splits != nullptr && column.splits[n_requests] == 0);
  if (n_kinds > 1 || (values_of(column, input.type) == nullptr && !(is_empty && n_kinds == 0))) {
    throw_bad(input.name, n_kinds == 0 ? "no values" : "values of another kind",
              std::string(field_of(input.type)) + "; set the others to NULL");
  }
  if (column.splits != nullptr) {
    if (!is_ragged(input)) throw_bad(input.name, "splits", "NULL: its values are no lists");
    return check_splits(column, n_requests);
  }
  const std::size_t width = std::max<std::size_t>(1, column.width);
  const std::size_t fixed =
      input.shape.size() == 2 ? static_cast<std::size_t>(input.shape[1]) : std::size_t{1};
  if (is_ragged(input) ? width > kMaxWidth : width != fixed) {
    throw_bad(input.name, "width " + std::to_string(column.width),
              is_ragged(input) ? "at most 2^24" : std::to_string(fixed) + " values a request");
  }
}

// Kinds and ages stand entry by entry beside the items of the history.
void check_events(const BoundColumn& history, const BoundColumn& events, std::size_t n_requests) {
  if (events.given == nullptr) return;
  const shortlist_column* items = history.given;
  bool is_same =
      items != nullptr && (items->splits == nullptr) == (events.given->splits == nullptr);
  if (is_same && items->splits != nullptr) {
    is_same = std::equal(items->splits, items->splits + n_requests + 1, events.given->splits);
  } else if (is_same) {
    is_same =
        std::max<std::size_t>(1, items->width) == std::max<std::size_t>(1, events.given->width);
  }
  if (!is_same) {
    throw_bad(events.input->name, "other lengths than those of history",
              "a value for each item of the history: the same splits, or the same width");
  }
}

// The column that kinds and ages stand beside; those of a graph without one stand alone.
const BoundColumn& history_of(const std::vector<BoundColumn>& bound, const BoundColumn& column) {
  const auto found = std::find_if(bound.begin(), bound.end(), [](const BoundColumn& one) {
    return one.input->name == "history";
  });
  return found == bound.end() ? column : *found;
}

// Values of each request in a tensor of n requests.
std::size_t width_of(const BoundColumn& column, std::size_t first, std::size_t n) {
  const Input& input = *column.input;
  if (input.shape.size() == 2 && !is_ragged(input)) return static_cast<std::size_t>(input.shape[1]);
  const shortlist_column* given = column.given;
  if (given == nullptr) return 1;
  if (given->splits == nullptr) return std::max<std::size_t>(1, given->width);
  std::size_t width = 1;
  for (std::size_t i = first; i < first + n; ++i) {
    width = std::max(width, static_cast<std::size_t>(given->splits[i + 1] - given->splits[i]));
  }
  return width;
}

// The requests of a tensor's rows.
struct Rows {
  std::size_t first, n_requests, n;

  std::size_t request(std::size_t row) const { return row < n_requests ? first + row : first; }
};

// Calls put(slot, value) for every value that was given.
template <class Put>
void each_value(const BoundColumn& column, const Rows& rows, std::size_t width, const Put& put) {
  const shortlist_column& given = *column.given;
  for (std::size_t i = 0; i < rows.n; ++i) {
    const auto [from, size] = span_of(given, rows.request(i));
    const std::size_t slot = i * width + (is_history(*column.input) ? width - size : 0);
    for (std::size_t k = 0; k < size; ++k) put(slot + k, from + k);
  }
}

void put_texts(const OrtApi& api, OrtValue* value, const BoundColumn& column, const Rows& rows,
               std::size_t width) {
  each_value(column, rows, width, [&](std::size_t slot, std::size_t from) {
    const shortlist_text& text = column.given->texts[from];
    if (text.size == 0) return;  // a new tensor's texts are empty
    if (text.data == nullptr) {
      throw_bad(column.input->name, "NULL for a text of " + std::to_string(text.size) + " bytes",
                "the address of its bytes");
    }
    char* bytes = nullptr;
    expect_ok(api, api.GetResizedStringTensorElementBuffer(value, slot, text.size, &bytes),
              column.input->name);
    std::memcpy(bytes, text.data, text.size);
  });
}

void put_floats(float* data, const BoundColumn& column, const Rows& rows, std::size_t width) {
  const bool are_ages = column.input->name == "history_ages";
  each_value(column, rows, width, [&](std::size_t slot, std::size_t from) {
    const float number = column.given->floats[from];
    if (std::isinf(number) || (are_ages && number < 0)) {
      throw_bad(column.input->name, std::to_string(number) + " at position " + std::to_string(from),
                are_ages ? "seconds before now, or NaN where they are not known"
                         : "a finite number, or NaN where there is none");
    }
    data[slot] = number;
  });
}

}  // namespace

bool is_history(const Input& input) {
  return input.name == "history" || input.name == "history_kinds" || input.name == "history_ages";
}

bool is_ragged(const Input& input) {
  return input.shape.size() == 2 && input.shape[1] < 0;
}

Span span_of(const shortlist_column& column, std::size_t request) {
  if (column.splits == nullptr) {
    const std::size_t width = std::max<std::size_t>(1, column.width);
    return {request * width, width};
  }
  const auto from = static_cast<std::size_t>(column.splits[request]);
  return {from, static_cast<std::size_t>(column.splits[request + 1]) - from};
}

std::vector<BoundColumn> bind_columns(const std::vector<Input>& inputs,
                                      const shortlist_column* columns, std::size_t n_columns,
                                      std::size_t n_requests, bool takes_users) {
  std::vector<BoundColumn> bound;
  bound.reserve(inputs.size());
  for (const Input& input : inputs) bound.push_back({&input, nullptr});
  for (std::size_t i = 0; i < n_columns; ++i) {
    const char* name = columns[i].name;
    if (takes_users && name != nullptr && name == std::string_view(kUserId)) continue;
    const auto found = std::find_if(bound.begin(), bound.end(), [name](const BoundColumn& column) {
      return name != nullptr && column.input->name == name;
    });
    if (found == bound.end()) {
      const std::string said = name == nullptr ? "no name" : "'" + std::string(name) + "'";
      const std::string users = takes_users ? std::string(", ") + kUserId : "";
      std::string names;
      for (const Input& input : inputs) names += (names.empty() ? "" : ", ") + input.name;
      throw_bad("name", said, "one of " + names + users + ", which the bundle takes");
    }
    if (found->given != nullptr) throw_bad(name, "it twice", "each column once");
    check_column(*found->input, columns[i], n_requests);
    found->given = columns + i;
  }
  for (const BoundColumn& column : bound) {
    if (is_history(*column.input)) check_events(history_of(bound, column), column, n_requests);
  }
  return bound;
}

std::size_t batch_size(const std::vector<BoundColumn>& bound, std::size_t first, std::size_t n) {
  const std::size_t most = std::min(kMaxBatch, n - first);
  std::size_t size = 0, width = 1;
  for (; size < most; ++size) {
    for (const BoundColumn& column : bound) {
      width = std::max(width, width_of(column, first + size, 1));
    }
    if (size > 0 && (size + 1) * width > kMaxValues) break;
  }
  return size;
}

bool is_room_in_batch(const std::vector<BoundColumn>& bound, std::size_t first, std::size_t n,
                      const Room& room) {
  std::size_t width = std::max<std::size_t>(1, room.history_width);
  for (const BoundColumn& column : bound) width = std::max(width, width_of(column, first, n));
  return std::max(n, room.n_rows) <= kMaxValues / width;
}

Handle<OrtValue> make_tensor(const OrtApi& api, const std::vector<std::int64_t>& shape,
                             ONNXTensorElementDataType type) {
  OrtAllocator* memory = nullptr;
  expect_ok(api, api.GetAllocatorWithDefaultOptions(&memory), "memory");
  OrtValue* value = nullptr;
  expect_ok(api, api.CreateTensorAsOrtValue(memory, shape.data(), shape.size(), type, &value),
            "memory");
  return {value, api.ReleaseValue};
}

Handle<OrtValue> make_input(const OrtApi& api, const std::vector<BoundColumn>& bound,
                            const BoundColumn& column, std::size_t first, std::size_t n,
                            const Room& room) {
  const Input& input = *column.input;
  const Rows rows{first, n, std::max(n, room.n_rows)};
  std::size_t width = width_of(is_history(input) ? history_of(bound, column) : column, first, n);
  if (is_history(input)) width = std::max(width, room.history_width);
  std::vector<std::int64_t> shape = {static_cast<std::int64_t>(rows.n)};
  if (input.shape.size() == 2) shape.push_back(static_cast<std::int64_t>(width));
  Handle<OrtValue> value = make_tensor(api, shape, input.type);
  if (input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
    if (column.given != nullptr) put_texts(api, value.get(), column, rows, width);
    return value;
  }
  void* data = nullptr;
  expect_ok(api, api.GetTensorMutableData(value.get(), &data), input.name);
  if (input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    auto* floats = static_cast<float*>(data);
    std::fill_n(floats, rows.n * width, std::numeric_limits<float>::quiet_NaN());
    if (column.given != nullptr) put_floats(floats, column, rows, width);
  } else {
    auto* numbers = static_cast<std::int64_t*>(data);
    std::fill_n(numbers, rows.n * width, std::numeric_limits<std::int64_t>::min());
    if (column.given != nullptr) {
      each_value(column, rows, width, [&](std::size_t slot, std::size_t from) {
        numbers[slot] = column.given->numbers[from];
      });
    }
  }
  return value;
}

}  // namespace shortlist::engine
