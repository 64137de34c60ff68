// Item ids that grow while readers look them up (internal). One writer appends and removes; any
// number of readers look up at the generation of their snapshot, without locks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>

#include "shortlist/item_ids.hpp"

namespace shortlist {

constexpr std::uint64_t kNoGeneration = std::numeric_limits<std::uint64_t>::max();

// A row keeps its id for ever; a removed id that comes back gets a new row. Arrays have a fixed
// capacity, so readers never see them move: when they are full, the writer goes on with a copy.
class LiveIds {
 public:
  // Row numbers become int64 ids. Both have room for n_more ids with n_bytes bytes in all.
  static std::shared_ptr<LiveIds> copy_of(const ItemIds& ids, std::size_t n_more,
                                          std::size_t n_bytes);
  std::shared_ptr<LiveIds> copy(std::size_t n_more, std::size_t n_bytes) const;
  bool has_room(std::size_t n_more, std::size_t n_bytes) const;

  // Gives the next row to the id. @pre has_room, and the id is unknown or removed
  void append(std::int64_t id) noexcept;
  void append(std::string_view id) noexcept;
  void remove(std::size_t row, std::uint64_t generation) noexcept {
    removed_[row].store(generation, std::memory_order_relaxed);
  }

  ItemIds::Kind kind() const { return kind_; }
  bool is_removed(std::size_t row, std::uint64_t generation) const {
    return removed_[row].load(std::memory_order_relaxed) <= generation;
  }
  std::int64_t int64_at(std::size_t row) const { return values_[row]; }
  std::string_view string_at(std::size_t row) const {
    return {bytes_.get() + values_[row], static_cast<std::size_t>(values_[row + 1] - values_[row])};
  }
  // Of memory, about.
  std::size_t n_bytes() const {
    return capacity_ * (2 * sizeof(std::int64_t) + sizeof(std::uint32_t)) + byte_capacity_ +
           n_slots_ * sizeof(std::uint32_t);
  }
  // -1 when unknown, or of the other kind, for a snapshot of n_rows rows.
  std::int64_t row_of(std::int64_t id, std::size_t n_rows, std::uint64_t generation) const;
  std::int64_t row_of(std::string_view id, std::size_t n_rows, std::uint64_t generation) const;

 private:
  LiveIds(ItemIds::Kind kind, std::size_t capacity, std::size_t byte_capacity);
  template <class Key>
  Key key_at(std::size_t row) const;
  template <class Key>
  std::size_t slot_of(Key key) const;
  template <class Key>
  void insert_last(Key key) noexcept;
  template <class Key>
  std::int64_t find(Key key, std::size_t n_rows, std::uint64_t generation) const;

  ItemIds::Kind kind_;
  std::size_t capacity_;
  std::size_t byte_capacity_;
  std::size_t n_slots_;
  std::size_t n_rows_ = 0;                  // the writer's
  std::unique_ptr<std::int64_t[]> values_;  // ids, or for strings where each starts in bytes_
  std::unique_ptr<char[]> bytes_;
  std::unique_ptr<std::uint32_t[]> previous_;  // row + 1 of the same id before, 0 = none
  std::unique_ptr<std::atomic<std::uint64_t>[]> removed_;  // at which generation, by row
  std::unique_ptr<std::atomic<std::uint32_t>[]> slots_;    // newest row of an id + 1, 0 = free
};

}  // namespace shortlist
