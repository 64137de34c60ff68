#include "engine/faster_way.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <vector>

namespace shortlist::engine {
namespace {

constexpr std::size_t kSizes[] = {1, 32, 256};
constexpr int kRounds = 5;

double microseconds(const std::function<void(std::size_t)>& answer, std::size_t n_requests) {
  const auto start = std::chrono::steady_clock::now();
  answer(n_requests);
  const std::chrono::duration<double, std::micro> passed = std::chrono::steady_clock::now() - start;
  return passed.count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

FasterWay::Way FasterWay::of(std::size_t n_requests) const {
  const auto next = from_batch_.upper_bound(std::max<std::size_t>(1, n_requests));
  return std::prev(next)->second;
}

void FasterWay::measure(const std::function<void(std::size_t n_requests)>& answer) {
  std::map<std::size_t, Way> faster;
  for (const std::size_t size : kSizes) {
    std::vector<double> index, graph;
    for (int round = -1; round < kRounds; ++round) {  // in turns: a busy moment hits both
      for (const Way way : {Way::index, Way::graph}) {
        from_batch_ = {{1, way}};
        const double time = microseconds(answer, size);
        // The first round finds cold caches, and memory that is not planned yet.
        if (round >= 0) (way == Way::index ? index : graph).push_back(time);
      }
    }
    const Times times{median(index), median(graph)};
    times_us_[size] = times;
    faster[size] = times.graph < times.index ? Way::graph : Way::index;
  }
  from_batch_ = faster;
}

}  // namespace shortlist::engine
