// Item rows to be looked up, in any order and with repeats (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shortlist {

// A hash table with open addressing, at most half full. Sorting the rows of a user's history took
// longer than scanning a small catalogue.
class RowSet {
 public:
  RowSet() = default;
  // Room for so many rows.
  explicit RowSet(std::size_t n_most) {
    if (n_most == 0) return;
    unsigned n_bits = 4;
    while ((std::size_t{1} << n_bits) < 2 * n_most) ++n_bits;
    shift_ = 64 - n_bits;
    slots_.resize(std::size_t{1} << n_bits);
  }

  bool is_empty() const { return slots_.empty(); }

  // @pre 0 <= row < 2^32 - 1, and there is room
  void insert(std::int64_t row) { slots_[slot_of(row)] = entry_of(row); }

  bool contains(std::int64_t row) const { return !is_empty() && slots_[slot_of(row)] != 0; }

 private:
  static std::uint32_t entry_of(std::int64_t row) { return static_cast<std::uint32_t>(row + 1); }

  // The row's slot, or the free one where it belongs. Fibonacci hashing: Knuth, TAOCP 3, 6.4.
  std::size_t slot_of(std::int64_t row) const {
    const std::uint64_t hash = static_cast<std::uint64_t>(row) * 0x9E3779B97F4A7C15U;
    std::size_t slot = static_cast<std::size_t>(hash >> shift_);
    while (slots_[slot] != 0 && slots_[slot] != entry_of(row)) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
  }

  std::vector<std::uint32_t> slots_;  // row + 1, 0 = free
  unsigned shift_ = 0;
};

}  // namespace shortlist
