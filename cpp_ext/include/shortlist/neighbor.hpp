// The one total order of results, and a bounded buffer of the best N under it. Every heap, merge
// and final sort uses is_better(), so a result never depends on scan order or thread count.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

// The best `capacity` neighbours pushed so far: a heap with the worst one in front.
class TopN {
 public:
  explicit TopN(std::size_t capacity) : capacity_(capacity) {}

  bool is_full() const { return heap_.size() == capacity_; }
  std::size_t size() const { return heap_.size(); }
  std::size_t capacity() const { return capacity_; }

  // The score to reach: a neighbour with a lower score cannot enter. -infinity until full.
  float threshold() const {
    return is_full() ? heap_.front().score : -std::numeric_limits<float>::infinity();
  }

  // False if push() would leave the buffer as it is.
  bool accepts(const Neighbor& candidate) const {
    return !is_full() || is_better(candidate, heap_.front());
  }

  void push(const Neighbor& candidate) {
    if (!is_full()) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end(), is_better);
    } else if (is_better(candidate, heap_.front())) {
      replace_worst(candidate);
    }
  }

  // Best first. The buffer is empty afterwards.
  std::vector<Neighbor> take_sorted() {
    std::sort(heap_.begin(), heap_.end(), is_better);
    return std::move(heap_);
  }

  const std::vector<Neighbor>& items() const { return heap_; }

 private:
  // One sift-down instead of pop_heap + push_heap.
  void replace_worst(const Neighbor& candidate) {
    const std::size_t size = heap_.size();
    std::size_t hole = 0;
    for (;;) {
      std::size_t child = 2 * hole + 1;
      if (child >= size) break;
      if (child + 1 < size && is_better(heap_[child], heap_[child + 1])) ++child;
      if (!is_better(candidate, heap_[child])) break;
      heap_[hole] = heap_[child];
      hole = child;
    }
    heap_[hole] = candidate;
  }

  std::size_t capacity_;
  std::vector<Neighbor> heap_;
};

}  // namespace shortlist
