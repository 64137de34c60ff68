// Hashes of item ids (internal). They have a key that each process draws anew, so that nobody can
// write a file whose ids all meet in one place of a table: that would take quadratic time.
#pragma once

#include <cstdint>
#include <string_view>

namespace shortlist {

struct HashKey {
  std::uint64_t first, second;
};

// Of this process; drawn at the first call.
const HashKey& hash_key();

// The finaliser of splitmix64 (public domain).
inline std::uint64_t mixed(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

// Twice mixed, each time with another half of the key: once would leave differences of ids that
// meet whatever the key is.
inline std::uint64_t hash_of(std::int64_t id, const HashKey& key) {
  return mixed(mixed(static_cast<std::uint64_t>(id) ^ key.first) ^ key.second);
}

// SipHash-1-3 (Aumasson and Bernstein, https://www.aumasson.jp/siphash), as Python's.
std::uint64_t hash_of(std::string_view id, const HashKey& key);

}  // namespace shortlist
