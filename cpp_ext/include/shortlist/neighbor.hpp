// The one total order of results, and a bounded buffer of the best N under it. Every heap, merge
// and final sort uses is_better() or the keys that say the same, so a result never depends on scan
// order or thread count.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace shortlist {

struct Neighbor {
  float score;
  std::int64_t row;
};

// Score descending, then the lower row first. Scores are never NaN (inputs are checked).
inline bool is_better(const Neighbor& a, const Neighbor& b) {
  return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// A neighbour as one number, smaller where it is better: algorithms compare it without branches.
// @pre 0 <= row < 2^32, and the score is not -0
inline std::uint64_t key_of(const Neighbor& neighbor) {
  std::uint32_t bits;
  std::memcpy(&bits, &neighbor.score, sizeof bits);
  const std::uint32_t ascending = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  return std::uint64_t{~ascending} << 32 | static_cast<std::uint32_t>(neighbor.row);
}

inline Neighbor neighbor_of(std::uint64_t key) {
  const auto ascending = ~static_cast<std::uint32_t>(key >> 32);
  const std::uint32_t bits = (ascending >> 31) != 0 ? ascending & 0x7FFFFFFFU : ~ascending;
  Neighbor neighbor = {0, static_cast<std::int64_t>(key & 0xFFFFFFFFU)};
  std::memcpy(&neighbor.score, &bits, sizeof bits);
  return neighbor;
}

// Sorts keys in ascending order: best first.
void sort_keys(std::vector<std::uint64_t>& keys);
// Leaves the n least; the greatest of them comes last. @pre 1 <= n <= keys.size()
void keep_least(std::vector<std::uint64_t>& keys, std::size_t n);

// The best `capacity` neighbours pushed so far. A few are a heap with the worst one in front. Many
// are a list that is cut from time to time: that costs a push less than a deep heap.
class TopN {
 public:
  explicit TopN(std::size_t capacity) : capacity_(capacity) {}

  std::size_t capacity() const { return capacity_; }

  // A neighbour with a lower score cannot enter; -infinity until capacity() are there. Of a list
  // it is that of the last settle() or cut.
  float threshold() const { return threshold_; }

  // False if push() would leave the buffer as it is.
  bool accepts(const Neighbor& candidate) const { return key_of(candidate) < worst_; }

  void push(const Neighbor& candidate) {
    const std::uint64_t key = key_of(candidate);
    if (key >= worst_) return;
    if (worst_ != kNoWorst && !is_list()) {
      replace_worst(key);
      return;
    }
    keys_.push_back(key);
    if (is_list()) {
      if (keys_.size() == capacity_ + std::max(kMostInHeap, capacity_ / 2)) cut();
    } else if (keys_.size() == capacity_) {
      std::make_heap(keys_.begin(), keys_.end());
      set_worst(keys_.front());
    }
  }

  // Brings the threshold of a list up to date where that is worth its while; the first one only
  // when no more are to come soon.
  void settle(bool is_pause) {
    if (!is_list() || keys_.size() < capacity_) return;
    const bool is_first = is_pause && worst_ == kNoWorst;
    if (is_first || keys_.size() - capacity_ >= capacity_ / 4) cut();
  }

  // Their keys, best first. Of no use for more afterwards.
  const std::vector<std::uint64_t>& sort() {
    sort_keys(keys_);
    if (keys_.size() > capacity_) keys_.resize(capacity_);
    return keys_;
  }

  // True if capacity() of them have at least that score.
  bool reaches(float score) const {
    const std::uint64_t last = key_of({score, 0xFFFFFFFF});
    const auto n =
        std::count_if(keys_.begin(), keys_.end(), [last](auto key) { return key <= last; });
    return static_cast<std::size_t>(n) >= capacity_;
  }

  // In no particular order; a list may still have more than `capacity`.
  std::vector<Neighbor> items() const { return neighbors_of(keys_); }

 private:
  static constexpr std::uint64_t kNoWorst = std::numeric_limits<std::uint64_t>::max();
  static constexpr std::size_t kMostInHeap = 64;

  static std::vector<Neighbor> neighbors_of(const std::vector<std::uint64_t>& keys) {
    std::vector<Neighbor> found(keys.size());
    std::transform(keys.begin(), keys.end(), found.begin(), neighbor_of);
    return found;
  }

  bool is_list() const { return capacity_ > kMostInHeap; }

  void set_worst(std::uint64_t key) {
    worst_ = key;
    threshold_ = neighbor_of(key).score;
  }

  // @pre capacity() keys or more
  void cut() {
    keep_least(keys_, capacity_);
    set_worst(keys_.back());
  }

  // One sift-down instead of pop_heap + push_heap.
  void replace_worst(std::uint64_t key) {
    const std::size_t size = keys_.size();
    std::size_t hole = 0;
    for (;;) {
      std::size_t child = 2 * hole + 1;
      if (child >= size) break;
      if (child + 1 < size) child += keys_[child] < keys_[child + 1];
      if (keys_[child] <= key) break;
      keys_[hole] = keys_[child];
      hole = child;
    }
    keys_[hole] = key;
    set_worst(keys_.front());
  }

  std::size_t capacity_;
  std::vector<std::uint64_t> keys_;
  std::uint64_t worst_ = kNoWorst;  // of the best `capacity`, as far as it is known
  float threshold_ = -std::numeric_limits<float>::infinity();
};

}  // namespace shortlist
