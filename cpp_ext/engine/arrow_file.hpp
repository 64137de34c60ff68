// Tables of a bundle: Arrow IPC files as export writes them (internal). Uncompressed, in one record
// batch; columns of numbers, truth values, times, text, and lists of those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/flatbuffer.hpp"

namespace shortlist::engine {

// A column, over the file's bytes. Row i of n.
class [[gnu::visibility("default")]] ArrowColumn {
 public:
  enum class Kind { none, integer, real, boolean, text, timestamp, days, list, other };

  bool is_given(std::size_t i) const;
  // Of integer, boolean, timestamp and days. @pre is_given(i), i < n, as below
  std::int64_t integer_at(std::size_t i) const;
  double real_at(std::size_t i) const;  // of real and integer
  std::string_view text_at(std::size_t i) const;
  // Lists: row i has the values begin(i) .. begin(i + 1) - 1 of `values`, none if it is null.
  std::size_t begin(std::size_t i) const;
  const ArrowColumn& values() const { return children[0]; }

  std::string name;
  Kind kind = Kind::other;
  std::size_t n = 0;
  std::size_t n_bits = 0;  // integer, real
  bool is_signed = true;   // integer
  std::int64_t ticks = 1;  // timestamp: of a second
  std::vector<ArrowColumn> children;
  const unsigned char* given = nullptr;  // a bit a row; null = all are
  const unsigned char* data = nullptr;   // numbers; or the bytes of text
  const unsigned char* offsets = nullptr;
};

// Throws FileError, naming `bytes.name()`, for anything else, and for what reaches beyond the file.
std::vector<ArrowColumn> read_arrow(const Bytes& bytes);

}  // namespace shortlist::engine
