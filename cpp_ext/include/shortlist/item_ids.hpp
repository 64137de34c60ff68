// The shop's item ids and the way back from an id to its row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace [[gnu::visibility("default")]] shortlist {

// Ids are row numbers (nothing stored), int64, or UTF-8 strings; unique. Immutable after the
// constructor, so any number of threads may look up at once. Lookup is O(1).
class ItemIds {
 public:
  enum class Kind : int { row_numbers = 0, int64 = 1, string = 2 };

  ItemIds() = default;
  // Throws std::invalid_argument that names the first repeated id and both rows.
  static ItemIds row_numbers(std::size_t n_items);
  static ItemIds from_int64(std::vector<std::int64_t> values);
  // Row r is bytes[offsets[r], offsets[r + 1]); offsets has n + 1 ascending entries from 0.
  static ItemIds from_strings(std::string bytes, std::vector<std::int64_t> offsets);

  Kind kind() const { return kind_; }
  std::size_t size() const { return n_items_; }
  std::int64_t int64_at(std::size_t row) const {
    return kind_ == Kind::row_numbers ? static_cast<std::int64_t>(row) : values_[row];
  }
  std::string_view string_at(std::size_t row) const {
    return std::string_view(bytes_).substr(
        static_cast<std::size_t>(offsets_[row]),
        static_cast<std::size_t>(offsets_[row + 1] - offsets_[row]));
  }
  // -1 when the id is unknown, or of the other kind.
  std::int64_t row_of(std::int64_t id) const;
  std::int64_t row_of(std::string_view id) const;
  void rows_of(const std::int64_t* ids, std::size_t n, std::int64_t* rows) const;

  // Of memory, about.
  std::size_t n_bytes() const {
    return (values_.capacity() + offsets_.capacity()) * sizeof(std::int64_t) + bytes_.capacity() +
           slots_.capacity() * sizeof(std::uint32_t);
  }

  const std::vector<std::int64_t>& values() const { return values_; }
  const std::string& bytes() const { return bytes_; }
  const std::vector<std::int64_t>& offsets() const { return offsets_; }

 private:
  void build_slots();
  // `slot`: where the search for it begins.
  template <class Key>
  std::int64_t find(Key key, std::size_t slot) const;

  Kind kind_ = Kind::row_numbers;
  std::size_t n_items_ = 0;
  std::vector<std::int64_t> values_;
  std::string bytes_;
  std::vector<std::int64_t> offsets_;
  std::vector<std::uint32_t> slots_;  // row + 1, 0 = free; size is a power of two >= 2 n
};

}  // namespace shortlist
