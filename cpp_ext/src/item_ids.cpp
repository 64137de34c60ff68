#include "shortlist/item_ids.hpp"

#include <stdexcept>
#include <utility>

namespace shortlist {
namespace {

std::uint64_t mix(std::uint64_t value) {  // the finaliser of splitmix64 (public domain)
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

std::uint64_t hash_of(std::int64_t id) {
  return mix(static_cast<std::uint64_t>(id) + 0x9E3779B97F4A7C15ULL);
}

std::uint64_t hash_of(std::string_view id) {  // FNV-1a, then mixed
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char byte : id) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3ULL;
  }
  return mix(hash);
}

std::string text_of(std::int64_t id) {
  return std::to_string(id);
}
std::string text_of(std::string_view id) {
  return "'" + std::string(id) + "'";
}

template <class Key>
[[noreturn]] void throw_duplicate(Key id, std::size_t first, std::size_t second) {
  throw std::invalid_argument("item_ids: got " + text_of(id) + " twice, in rows " +
                              std::to_string(first) + " and " + std::to_string(second) +
                              "; expected unique ids; drop or rename one of the two rows");
}

template <class At>
void fill_slots(std::vector<std::uint32_t>& slots, std::size_t n_items, const At& at) {
  const std::size_t mask = slots.size() - 1;
  for (std::size_t row = 0; row < n_items; ++row) {
    const auto key = at(row);
    std::size_t slot = static_cast<std::size_t>(hash_of(key)) & mask;
    while (slots[slot] != 0) {
      const std::size_t other = slots[slot] - 1;
      if (at(other) == key) throw_duplicate(key, other, row);
      slot = (slot + 1) & mask;
    }
    slots[slot] = static_cast<std::uint32_t>(row + 1);
  }
}

}  // namespace

ItemIds ItemIds::row_numbers(std::size_t n_items) {
  ItemIds ids;
  ids.n_items_ = n_items;
  return ids;
}

ItemIds ItemIds::from_int64(std::vector<std::int64_t> values) {
  ItemIds ids;
  ids.kind_ = Kind::int64;
  ids.n_items_ = values.size();
  ids.values_ = std::move(values);
  ids.build_slots();
  return ids;
}

ItemIds ItemIds::from_strings(std::string bytes, std::vector<std::int64_t> offsets) {
  if (offsets.empty() || offsets.front() != 0) {
    throw std::invalid_argument("item_ids: string offsets must start with 0");
  }
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    if (offsets[row + 1] < offsets[row]) {
      throw std::invalid_argument("item_ids: string offsets must ascend");
    }
  }
  if (static_cast<std::size_t>(offsets.back()) != bytes.size()) {
    throw std::invalid_argument("item_ids: string offsets must end at the number of bytes");
  }
  ItemIds ids;
  ids.kind_ = Kind::string;
  ids.n_items_ = offsets.size() - 1;
  ids.bytes_ = std::move(bytes);
  ids.offsets_ = std::move(offsets);
  ids.build_slots();
  return ids;
}

void ItemIds::build_slots() {
  std::size_t n_slots = 8;
  while (n_slots < 2 * n_items_) n_slots *= 2;
  slots_.assign(n_slots, 0);
  if (kind_ == Kind::int64) {
    fill_slots(slots_, n_items_, [this](std::size_t row) { return values_[row]; });
  } else {
    fill_slots(slots_, n_items_, [this](std::size_t row) { return string_at(row); });
  }
}

template <class Key>
std::int64_t ItemIds::find(Key key) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = static_cast<std::size_t>(hash_of(key)) & mask; slots_[slot] != 0;
       slot = (slot + 1) & mask) {
    const std::size_t row = slots_[slot] - 1;
    bool is_equal;
    if constexpr (std::is_same_v<Key, std::int64_t>) {
      is_equal = values_[row] == key;
    } else {
      is_equal = string_at(row) == key;
    }
    if (is_equal) return static_cast<std::int64_t>(row);
  }
  return -1;
}

std::int64_t ItemIds::row_of(std::int64_t id) const {
  if (kind_ == Kind::row_numbers) {
    return id >= 0 && static_cast<std::uint64_t>(id) < n_items_ ? id : -1;
  }
  return kind_ == Kind::int64 ? find(id) : -1;
}

std::int64_t ItemIds::row_of(std::string_view id) const {
  return kind_ == Kind::string ? find(id) : -1;
}

}  // namespace shortlist
