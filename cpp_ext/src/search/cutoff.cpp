#include "src/search/cutoff.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>

namespace shortlist {

// In lanes, so that none waits for the one before.
std::pair<float, float> range_of(const std::vector<float>& scores) {
  constexpr std::size_t kLanes = 8;
  float low[kLanes], high[kLanes];
  std::fill_n(low, kLanes, scores[0]);
  std::fill_n(high, kLanes, scores[0]);
  std::size_t i = 0;
  for (; i + kLanes <= scores.size(); i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k) {
      low[k] = std::min(low[k], scores[i + k]);
      high[k] = std::max(high[k], scores[i + k]);
    }
  }
  for (; i < scores.size(); ++i) {
    low[0] = std::min(low[0], scores[i]);
    high[0] = std::max(high[0], scores[i]);
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

// By counting, as nth_element would mispredict a branch at every other score.
float cutoff_for(const std::vector<float>& scores, std::size_t n_wanted) {
  const auto [low, high] = range_of(scores);
  const float scale = static_cast<float>(kBuckets - 1) / (high - low);
  if (scale > 0 && scale < std::numeric_limits<float>::infinity()) {
    std::uint32_t counts[kBuckets] = {};
    for (const float score : scores) ++counts[static_cast<std::size_t>((score - low) * scale)];
    std::size_t bucket = kBuckets - 1, n_above = counts[bucket];
    while (n_above < n_wanted) n_above += counts[--bucket];
    // Bucket 0 or a crowded one says too little about a heavy-tailed distribution.
    if (n_above <= 2 * n_wanted) {
      return low + (static_cast<float>(bucket) * (1 - 1e-6F)) / scale;
    }
  }
  std::vector<float> ranked = scores;
  const auto last = ranked.begin() + static_cast<std::ptrdiff_t>(n_wanted - 1);
  std::nth_element(ranked.begin(), last, ranked.end(), std::greater<>());
  return *last;
}

}  // namespace shortlist
