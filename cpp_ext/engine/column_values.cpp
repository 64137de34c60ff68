#include "engine/column_values.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace shortlist::engine {
namespace {

constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();

}  // namespace

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

bool is_given(const BoundColumn& column, std::size_t i) {
  switch (column.input->type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING:
      return column.given->texts[i].size > 0;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return !std::isnan(column.given->floats[i]);
    default:
      return column.given->numbers[i] != kMissing;
  }
}

std::int64_t row_in(const IndexView& index, const BoundColumn& history, std::size_t i) {
  if (history.input->type != ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
    return index.row_of(history.given->numbers[i]);
  }
  return index.row_of(text_of(*history.given, i));
}

void ColumnValues::add(const shortlist_column& given, Span span) {
  if (span.size == 0) return;  // there may be no values at all
  const auto append = [&span](const auto* from, auto* to) {
    to->insert(to->end(), from + span.from, from + span.from + span.size);
  };
  if (input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
    append(given.texts, &texts);
  } else if (input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    append(given.floats, &floats);
  } else {
    append(given.numbers, &numbers);
  }
}

void ColumnValues::add_missing(std::size_t n) {
  if (input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
    texts.insert(texts.end(), n, shortlist_text{});
  } else if (input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    floats.insert(floats.end(), n, std::numeric_limits<float>::quiet_NaN());
  } else {
    numbers.insert(numbers.end(), n, kMissing);
  }
}

void ColumnValues::end_request() {
  const std::size_t n = input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING  ? texts.size()
                        : input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? floats.size()
                                                                            : numbers.size();
  splits.push_back(static_cast<std::int64_t>(n));
}

shortlist_column ColumnValues::column() const {
  shortlist_column column{};
  column.name = input.name.c_str();
  column.numbers = numbers.data();
  column.floats = floats.data();
  column.texts = texts.data();
  if (is_ragged(input)) {
    column.splits = splits.data();
  } else if (input.shape.size() == 2) {
    column.width = static_cast<std::size_t>(input.shape[1]);
  }
  return column;
}

}  // namespace shortlist::engine
