// What a session remembers, in few bytes: there may be a million of them (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "engine/columns.hpp"

namespace shortlist::engine {

constexpr std::int64_t kNoTime = std::numeric_limits<std::int64_t>::min();

// An item as the shop names it: by a number, or by a text.
struct ItemName {
  std::int64_t number = 0;
  std::string_view text;

  bool operator==(const ItemName& other) const {
    return number == other.number && text == other.text;
  }
};

// What a user did. An event of usual length is about 5 bytes, and as many again with a time.
struct Event {
  ItemName item;
  std::string_view kind;        // empty = none
  std::int64_t time = kNoTime;  // seconds since 1970
};

// From a time to a later one; 0 where it is not later.
float seconds_between(std::int64_t from, std::int64_t to);

// Bytes that grow by an eighth at a time.
class PackedBytes {
 public:
  PackedBytes() = default;
  ~PackedBytes();
  PackedBytes(const PackedBytes&) = delete;
  PackedBytes& operator=(const PackedBytes&) = delete;

  std::string_view view() const { return {data_, size_}; }
  std::size_t size() const { return size_; }
  // Puts other bytes in the place of size() - from of them. Throws std::invalid_argument for more
  // than a session may have.
  void replace_from(std::size_t from, std::string_view bytes);
  // What the allocator keeps for them.
  std::size_t n_bytes() const;

 private:
  char* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
};

// What the allocator keeps for a block, with its own number beside it.
std::size_t block_size(const void* block);

void pack(const Event& event, std::string* to);
// Reads the event at the beginning of `from`, which goes on to the next one. Texts are borrowed.
Event unpack(std::string_view* from);
// Packs the columns of one request, but for histories and missing values.
void pack_columns(const shortlist_column* columns, std::size_t n_columns, std::string* to);

// What pack_columns has packed, as columns of one request.
class UnpackedColumns {
 public:
  explicit UnpackedColumns(std::string_view from);
  UnpackedColumns(const UnpackedColumns&) = delete;
  UnpackedColumns& operator=(const UnpackedColumns&) = delete;

  const std::vector<shortlist_column>& columns() const { return columns_; }

 private:
  std::deque<std::string> names_;
  std::deque<std::vector<std::int64_t>> numbers_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<shortlist_text>> texts_;
  std::vector<shortlist_column> columns_;
};

}  // namespace shortlist::engine
