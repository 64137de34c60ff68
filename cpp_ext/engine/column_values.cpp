#include "engine/column_values.hpp"

#include <limits>

namespace shortlist::engine {

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
    numbers.insert(numbers.end(), n, std::numeric_limits<std::int64_t>::min());
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
