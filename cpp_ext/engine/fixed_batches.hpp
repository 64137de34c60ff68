// Batch sizes that smaller batches are filled up to, so that a graph's shapes do not change and
// ONNX Runtime plans its memory once (internal).
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace shortlist::engine {

class FixedBatches {
 public:
  FixedBatches() = default;
  explicit FixedBatches(std::vector<std::size_t> sizes) : sizes_(std::move(sizes)) {
    std::sort(sizes_.begin(), sizes_.end());
  }

  // Ascending; none = every batch runs as it is.
  const std::vector<std::size_t>& sizes() const { return sizes_; }
  // The size for a batch of n; 0 = as it is, for one that is larger than all.
  std::size_t size_for(std::size_t n) const {
    const auto found = std::lower_bound(sizes_.begin(), sizes_.end(), n);
    return found == sizes_.end() ? 0 : *found;
  }

 private:
  std::vector<std::size_t> sizes_;
};

}  // namespace shortlist::engine
