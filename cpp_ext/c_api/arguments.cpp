#include "c_api/arguments.hpp"

#include <limits>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "src/system/utf8.hpp"

namespace shortlist::c_api {
namespace {

constexpr std::size_t kMaxBytes = std::numeric_limits<std::ptrdiff_t>::max();

[[noreturn]] void throw_argument(const std::string& name, const std::string& got,
                                 const std::string& expected) {
  throw std::invalid_argument(name + ": got " + got + "; expected " + expected);
}

// Exactly one way of naming the items, unless there are none.
void check_ids(const shortlist_ids& ids, bool may_be_rows, const char* name) {
  const int n_ways = (ids.numbers != nullptr) + (ids.texts != nullptr) + (ids.rows != nullptr);
  const std::string ways =
      may_be_rows ? "one of numbers, texts and rows" : "one of numbers and texts";
  if (n_ways > 1 || (n_ways == 0 && ids.n > 0)) {
    throw_argument(name, std::to_string(n_ways) + " arrays for " + std::to_string(ids.n) + " ids",
                   ways + "; set the others to NULL");
  }
  if (ids.rows != nullptr && !may_be_rows) {
    throw_argument(name, "rows", ways + "; shortlist_view_ids_of finds the ids of rows");
  }
  const std::size_t n_bytes = ids.texts != nullptr ? sizeof(shortlist_text) : sizeof(std::int64_t);
  if (ids.n > kMaxBytes / n_bytes) {
    throw_argument(name, "n = " + std::to_string(ids.n), "so many ids as fit into memory");
  }
}

std::string_view text_at(const shortlist_ids& ids, std::size_t i, const char* name) {
  const shortlist_text& text = ids.texts[i];
  if (text.size > 0 && text.data == nullptr) {
    throw_argument(name,
                   "NULL for a text of " + std::to_string(text.size) + " bytes at position " +
                       std::to_string(i),
                   "the address of its bytes");
  }
  return text.size == 0 ? std::string_view() : std::string_view(text.data, text.size);
}

void check_new_text(std::string_view text, std::size_t position) {
  const std::string at = " at position " + std::to_string(position);
  if (text.empty()) {
    throw_argument("item_ids", "an empty text" + at + ", which marks missing places in results",
                   "another id for this item");
  }
  if (text.find('\0') != std::string_view::npos || !is_utf8(text)) {
    throw_argument("item_ids", "bytes" + at + " that hold NUL or are no UTF-8",
                   "UTF-8 text without NUL characters; encode the id");
  }
}

ItemIds text_ids(const shortlist_ids& ids, bool are_new) {
  std::string bytes;
  std::vector<std::int64_t> offsets = {0};
  offsets.reserve(ids.n + 1);
  for (std::size_t i = 0; i < ids.n; ++i) {
    const std::string_view text = text_at(ids, i, "item_ids");
    if (are_new) check_new_text(text, i);
    bytes += text;
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  return ItemIds::from_strings(std::move(bytes), std::move(offsets));
}

}  // namespace

void check_pointer(const void* pointer, const char* name, const char* expected) {
  if (pointer == nullptr) throw_argument(name, "NULL", expected);
}

MatrixView matrix_of(const float* data, std::size_t n_rows, std::size_t dim, const char* name) {
  if (dim == 0) throw_argument(name, "dim 0", "at least 1 number a row");
  if (n_rows > kMaxBytes / sizeof(float) / dim) {
    throw_argument(name, std::to_string(n_rows) + " rows of " + std::to_string(dim) + " numbers",
                   "a matrix that fits into memory");
  }
  if (n_rows > 0 && data == nullptr) {
    throw_argument(name, "NULL for " + std::to_string(n_rows) + " rows",
                   "the address of row-major float32 numbers");
  }
  return {data, n_rows, dim};
}

void check_places(std::size_t n_queries, std::size_t top_n, std::size_t n_rows) {
  if (top_n == 0) throw_argument("top_n", "0", "at least 1");
  if (n_queries > 0 && top_n > kMaxBytes / sizeof(shortlist_text) / n_queries) {
    throw_argument("top_n",
                   std::to_string(top_n) + " for " + std::to_string(n_queries) + " queries",
                   "an answer that fits into memory; the index has " + std::to_string(n_rows) +
                       " rows: ask for at most as many");
  }
}

void check_struct(const void* given, std::size_t struct_size, std::size_t known_size,
                  const char* name, std::size_t least) {
  constexpr std::size_t kMostBytes = 4096;  // more is no size but a field that was never set
  if (struct_size < least || struct_size > kMostBytes) {
    throw_argument(std::string(name) + ".struct_size", std::to_string(struct_size),
                   std::to_string(known_size) + ", its sizeof; set it and zero the other fields");
  }
  const unsigned char* bytes = static_cast<const unsigned char*>(given);
  for (std::size_t i = known_size; i < struct_size; ++i) {
    if (bytes[i] != 0) {
      throw_argument(name, "a field that this library does not know",
                     "zeros after the first " + std::to_string(known_size) +
                         " bytes; use a library as new as the header");
    }
  }
}

ItemIds new_item_ids(const shortlist_ids& ids) {
  check_ids(ids, false, "item_ids");
  if (ids.texts != nullptr) return text_ids(ids, true);
  for (std::size_t i = 0; i < ids.n; ++i) {
    if (ids.numbers[i] == -1) {
      throw_argument("item_ids",
                     "-1 at position " + std::to_string(i) + ", which marks missing places",
                     "another id for this item");
    }
  }
  return item_ids(ids);
}

ItemIds item_ids(const shortlist_ids& ids) {
  check_ids(ids, false, "item_ids");
  if (ids.texts != nullptr) return text_ids(ids, false);
  return ItemIds::from_int64({ids.numbers, ids.numbers + ids.n});
}

void check_kind(const IndexView& view, const shortlist_ids& ids, const char* name) {
  const bool has_texts = view.id_kind() == ItemIds::Kind::string;
  if (ids.n == 0 || ids.rows != nullptr || has_texts == (ids.texts != nullptr)) return;
  throw_argument(name, has_texts ? "numbers" : "texts",
                 has_texts ? "texts: the ids of this index are text"
                           : "numbers: the ids of this index are int64");
}

Rows::Rows(const IndexView& view, const shortlist_ids& ids, const char* name) : size_(ids.n) {
  static const std::int64_t kNone = -1;
  check_ids(ids, true, name);
  check_kind(view, ids, name);
  if (ids.n == 0) {
    data_ = &kNone;
  } else if (ids.rows != nullptr) {
    data_ = ids.rows;
  } else {
    found_.resize(ids.n);
    if (ids.numbers != nullptr) view.rows_of(ids.numbers, ids.n, found_.data());
    for (std::size_t i = 0; ids.texts != nullptr && i < ids.n; ++i) {
      found_[i] = view.row_of(text_at(ids, i, name));
    }
    data_ = found_.data();
  }
}

}  // namespace shortlist::c_api
