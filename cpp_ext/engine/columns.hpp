// Requests as the caller has them → the inputs of recommend.onnx (internal).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/runtime.hpp"
#include "shortlist/shortlist.h"

namespace shortlist::engine {

// The column that names stored users.
constexpr const char* kUserId = "user_id";

// An input of the graph.
struct Input {
  std::string name;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<std::int64_t> shape;  // -1 where any size will do
};

// A column of the caller's for one input, or none: then every value is missing.
struct BoundColumn {
  const Input* input = nullptr;
  const shortlist_column* given = nullptr;
};

// history and what stands beside it, entry by entry.
bool is_history(const Input& input);
// Lists of any length, unless the graph says how long they are.
bool is_ragged(const Input& input);

// Values of one request in a column: `size` of them from `from` on.
struct Span {
  std::size_t from, size;
};
Span span_of(const shortlist_column& column, std::size_t request);

// Puts the columns in the order of the inputs; user_id, which is no input, is passed over where
// there may be users. Throws std::invalid_argument that names a column that is unknown, of another
// type or shape, or there twice.
std::vector<BoundColumn> bind_columns(const std::vector<Input>& inputs,
                                      const shortlist_column* columns, std::size_t n_columns,
                                      std::size_t n_requests, bool takes_users = true);

// How many of the n requests make one batch from `first` on: at most kMaxBatch. Its tensors are as
// wide as the longest list: it ends before one has more than kMaxValues values, but not before its
// first request. @pre first < n
std::size_t batch_size(const std::vector<BoundColumn>& bound, std::size_t first, std::size_t n);

// The least size of a batch's tensors: rows beyond its requests are copies of the first.
struct Room {
  std::size_t n_rows = 0, history_width = 0;
};

// Whether requests first .. first + n in so large tensors stay within what a batch may have.
bool is_room_in_batch(const std::vector<BoundColumn>& bound, std::size_t first, std::size_t n,
                      const Room& room);

// The tensor of requests first .. first + n. Histories lie to the right, tags to the left.
Handle<OrtValue> make_input(const OrtApi& api, const std::vector<BoundColumn>& bound,
                            const BoundColumn& column, std::size_t first, std::size_t n,
                            const Room& room = {});

// A tensor of ONNX Runtime's own memory.
Handle<OrtValue> make_tensor(const OrtApi& api, const std::vector<std::int64_t>& shape,
                             ONNXTensorElementDataType type);

}  // namespace shortlist::engine
