// Arguments of the C ABI, checked and turned into what the core takes. All functions throw
// std::invalid_argument that names the argument, what came, what was expected, and the fix.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "shortlist/index.hpp"
#include "shortlist/shortlist.h"

namespace shortlist::c_api {

void check_pointer(const void* pointer, const char* name, const char* expected);

// A matrix whose bytes fit into memory, with data unless it has no rows.
MatrixView matrix_of(const float* data, std::size_t n_rows, std::size_t dim, const char* name);

// n_queries * top_n places of 16 bytes (a text) must fit into memory.
void check_places(std::size_t n_queries, std::size_t top_n, std::size_t n_rows);

// The bytes of a struct beyond the fields this library knows must be zero. Hosts of older headers
// have structs of `least` bytes or more.
void check_struct(const void* given, std::size_t struct_size, std::size_t known_size,
                  const char* name, std::size_t least);
inline void check_struct(const void* given, std::size_t struct_size, std::size_t known_size,
                         const char* name) {
  check_struct(given, struct_size, known_size, name, known_size);
}

// Copies a struct that starts with struct_size; fields that an older host does not know are zero.
template <class Struct>
Struct known_fields(const Struct* given, const char* name, std::size_t least = sizeof(Struct)) {
  check_struct(given, given->struct_size, sizeof(Struct), name, least);
  Struct known{};
  std::memcpy(&known, given, std::min(given->struct_size, sizeof(Struct)));
  return known;
}

// New ids: unique, not -1, UTF-8 that is neither empty nor holds NUL.
ItemIds new_item_ids(const shortlist_ids& ids);
// Ids that may be unknown, for remove.
ItemIds item_ids(const shortlist_ids& ids);

// Numbers or texts, whichever the index has. `ids` may name no items at all.
void check_kind(const IndexView& view, const shortlist_ids& ids, const char* name);

// The rows of ids; -1 where unknown. Rows themselves are not copied.
class Rows {
 public:
  Rows() = default;
  Rows(const IndexView& view, const shortlist_ids& ids, const char* name);
  const std::int64_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::vector<std::int64_t> found_;
  const std::int64_t* data_ = nullptr;  // never null once made from ids
  std::size_t size_ = 0;
};

}  // namespace shortlist::c_api
