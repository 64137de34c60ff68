// Which of many estimated scores are the best ones, found by counting (internal).
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace shortlist {

constexpr std::size_t kBuckets = 256;

// The least and the greatest. @pre there is a score
std::pair<float, float> range_of(const std::vector<float>& scores);
// A value that n_wanted of the scores reach, and few more. @pre 0 < n_wanted <= scores.size()
float cutoff_for(const std::vector<float>& scores, std::size_t n_wanted);

}  // namespace shortlist
