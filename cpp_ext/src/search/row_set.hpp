// Item rows to be looked up, in any order and with repeats (internal).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace shortlist {

// Rows of a small catalogue are a bit each. Else a short list is a hash table, at most half full:
// sorting the rows of a user's history took longer than scanning a small catalogue. A long one is
// sorted, as rows may be chosen to collide.
class RowSet {
 public:
  RowSet() = default;

  // The rows of [begin, end) that are not negative, of which there are n_real.
  // @pre they are below 2^32 - 1
  RowSet(const std::int64_t* begin, const std::int64_t* end, std::size_t n_real) {
    if (n_real == 0) return;
    const auto largest = static_cast<std::size_t>(*std::max_element(begin, end));
    if (largest < kMostBits) {
      bits_.resize(largest / 64 + 1);
      for (const std::int64_t* row = begin; row != end; ++row) {
        if (*row >= 0) bits_[static_cast<std::size_t>(*row) / 64] |= std::uint64_t{1} << *row % 64;
      }
      return;
    }
    if (n_real > kMostHashed) {
      sorted_.reserve(n_real);
    } else {
      unsigned n_bits = 4;
      while ((std::size_t{1} << n_bits) < 2 * n_real) ++n_bits;
      shift_ = 64 - n_bits;
      slots_.resize(std::size_t{1} << n_bits);
    }
    for (const std::int64_t* row = begin; row != end; ++row) {
      if (*row < 0) continue;
      if (slots_.empty()) {
        sorted_.push_back(entry_of(*row));
      } else {
        slots_[slot_of(*row)] = entry_of(*row);
      }
    }
    std::sort(sorted_.begin(), sorted_.end());
  }

  bool is_empty() const { return bits_.empty() && slots_.empty() && sorted_.empty(); }

  // @pre row >= 0
  bool contains(std::int64_t row) const {
    if (!bits_.empty()) {
      const std::size_t word = static_cast<std::size_t>(row) / 64;
      return word < bits_.size() && (bits_[word] >> row % 64 & 1) != 0;
    }
    if (!slots_.empty()) return slots_[slot_of(row)] != 0;
    return std::binary_search(sorted_.begin(), sorted_.end(), entry_of(row));
  }

 private:
  static constexpr std::size_t kMostHashed = 512;
  static constexpr std::size_t kMostBits = std::size_t{1} << 14;  // 2 KiB

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

  std::vector<std::uint64_t> bits_;
  std::vector<std::uint32_t> slots_, sorted_;  // row + 1; a slot of 0 is free
  unsigned shift_ = 0;
};

}  // namespace shortlist
