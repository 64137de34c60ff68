#include "shortlist/neighbor.hpp"

#include <utility>

namespace shortlist {
namespace {

// Below that, comparing costs less than counting.
constexpr std::size_t kFewKeys = 48;
constexpr std::size_t kDigits = 4, kValues = 256;  // of a score: its four bytes

std::size_t digit_of(std::uint64_t key, std::size_t digit) {
  return static_cast<std::size_t>(key >> (32 + 8 * digit) & (kValues - 1));
}

}  // namespace

// @pre fewer than 2^32 keys, as rows differ. A radix sort by the scores, the last byte first; then
// the rows of equal scores.
void sort_keys(std::vector<std::uint64_t>& keys) {
  const std::size_t n = keys.size();
  if (n < kFewKeys) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  static thread_local std::vector<std::uint64_t> other;
  other.resize(n);
  std::uint32_t counts[kDigits][kValues] = {};
  for (const std::uint64_t key : keys) {
    for (std::size_t digit = 0; digit < kDigits; ++digit) ++counts[digit][digit_of(key, digit)];
  }
  for (std::size_t digit = 0; digit < kDigits; ++digit) {
    if (counts[digit][digit_of(keys[0], digit)] == n) continue;  // all alike
    std::uint32_t start = 0;
    for (std::uint32_t& count : counts[digit]) start += std::exchange(count, start);
    for (const std::uint64_t key : keys) other[counts[digit][digit_of(key, digit)]++] = key;
    keys.swap(other);
  }
  for (auto first = keys.begin(); first != keys.end();) {
    auto last = first + 1;
    while (last != keys.end() && *last >> 32 == *first >> 32) ++last;
    if (last - first > 1) std::sort(first, last);
    first = last;
  }
}

}  // namespace shortlist
