#include "shortlist/neighbor.hpp"

#include <utility>

namespace shortlist {
namespace {

// Below that, comparing costs less than counting.
constexpr std::size_t kFewKeys = 48;
constexpr unsigned kDigitBits = 7;
constexpr std::size_t kDigits = 2, kValues = std::size_t{1} << kDigitBits;

// The leading bits of what keys differ in: a number below kValues^2 that grows with the key.
struct Ranks {
  explicit Ranks(const std::vector<std::uint64_t>& keys) {
    std::uint64_t most = keys[0];
    low = keys[0];
    for (const std::uint64_t key : keys) {
      low = std::min(low, key);
      most = std::max(most, key);
    }
    while ((most - low) >> shift >> (kDigits * kDigitBits) != 0) ++shift;
  }
  std::size_t operator()(std::uint64_t key) const {
    return static_cast<std::size_t>((key - low) >> shift);
  }

  std::uint64_t low;
  unsigned shift = 0;
};

// Not inline, as GCC would ask for the address of what belongs to the thread at every use.
[[gnu::noinline]] std::vector<std::uint64_t>& thread_keys() {
  static thread_local std::vector<std::uint64_t> keys;
  return keys;
}

}  // namespace

// @pre fewer than 2^32 keys, as rows differ. A radix sort by ranks, the last digit first; then
// those of equal rank, which are few.
void sort_keys(std::vector<std::uint64_t>& keys) {
  if (keys.size() < kFewKeys) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  const Ranks rank(keys);
  std::vector<std::uint64_t>& other = thread_keys();
  other.resize(keys.size());
  std::uint32_t counts[kDigits][kValues] = {};
  for (const std::uint64_t key : keys) {
    ++counts[0][rank(key) % kValues];
    ++counts[1][rank(key) / kValues];
  }
  std::uint32_t starts[kDigits] = {};
  for (std::size_t value = 0; value < kValues; ++value) {
    starts[0] += std::exchange(counts[0][value], starts[0]);
    starts[1] += std::exchange(counts[1][value], starts[1]);
  }
  for (const std::uint64_t key : keys) other[counts[0][rank(key) % kValues]++] = key;
  for (const std::uint64_t key : other) keys[counts[1][rank(key) / kValues]++] = key;
  for (auto first = keys.begin(); first != keys.end();) {
    auto last = first + 1;
    while (last != keys.end() && rank(*last) == rank(*first)) ++last;
    if (last - first > 1) std::sort(first, last);
    first = last;
  }
}

// By counting digits, as nth_element would mispredict a branch at every other key. A rank is found
// of which the last key that stays is; those of that rank are few, and sorted.
void keep_least(std::vector<std::uint64_t>& keys, std::size_t n) {
  const Ranks rank(keys);
  std::uint32_t counts[kValues] = {};
  for (const std::uint64_t key : keys) ++counts[rank(key) / kValues];
  std::size_t first = 0, n_below = 0;
  while (n_below + counts[first] < n) n_below += counts[first++];
  std::fill_n(counts, kValues, 0);
  for (const std::uint64_t key : keys) {
    counts[rank(key) % kValues] += static_cast<std::uint32_t>(rank(key) / kValues == first);
  }
  std::size_t second = 0;
  while (n_below + counts[second] < n) n_below += counts[second++];
  const std::size_t last = first * kValues + second;
  std::vector<std::uint64_t>& alike = thread_keys();
  alike.resize(keys.size());
  std::size_t n_kept = 0, n_alike = 0;
  for (const std::uint64_t key : keys) {
    keys[n_kept] = alike[n_alike] = key;
    n_kept += rank(key) < last;
    n_alike += rank(key) == last;
  }
  std::sort(alike.begin(), alike.begin() + static_cast<std::ptrdiff_t>(n_alike));
  std::copy_n(alike.begin(), n - n_kept, keys.begin() + static_cast<std::ptrdiff_t>(n_kept));
  keys.resize(n);
}

}  // namespace shortlist
