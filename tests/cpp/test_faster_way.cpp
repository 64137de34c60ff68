// Both ways are measured, and each batch size gets the faster one.
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "engine/faster_way.hpp"

using shortlist::engine::FasterWay;
using Way = FasterWay::Way;

namespace {

int n_errors = 0;

void expect(bool is_true, const std::string& promise) {
  if (is_true) return;
  ++n_errors;
  std::fprintf(stderr, "broken: %s\n", promise.c_str());
}

const std::vector<std::size_t> kSizes = {1, 32, 256};

void one_way_is_taken_for_all_sizes_until_they_are_measured() {
  for (const Way given : {Way::index, Way::graph}) {
    const FasterWay way(given);
    for (const std::size_t n : {0UL, 1UL, 31UL, 5000UL}) expect(way.of(n) == given, "one way");
    expect(way.from_batch() == std::map<std::size_t, Way>{{1, given}} && way.times_us().empty(),
           "nothing is measured");
  }
}

// Which of two ways is slow, by size; the rest answers at once.
void each_size_gets_the_faster_way() {
  for (const Way faster : {Way::index, Way::graph}) {
    const Way slower = faster == Way::index ? Way::graph : Way::index;
    FasterWay way(Way::graph);
    std::map<std::size_t, std::vector<Way>> calls;
    way.measure([&](std::size_t n) {
      calls[n].push_back(way.of(n));
      const Way slow = n <= 32 ? slower : faster;
      if (way.of(n) == slow) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    });
    for (const std::size_t n : {1UL, 31UL, 32UL, 255UL}) expect(way.of(n) == faster, "the faster");
    for (const std::size_t n : {256UL, 1024UL}) expect(way.of(n) == slower, "for each size");
    expect(way.from_batch().size() == 3 && way.times_us().size() == 3, "three sizes");
    for (const std::size_t n : kSizes) {
      const FasterWay::Times times = way.times_us().at(n);
      const bool is_graph_slow = (n <= 32 ? slower : faster) == Way::graph;
      expect(
          (is_graph_slow ? times.graph : times.index) > 4000 && times.graph > 0 && times.index > 0,
          "medians in microseconds");
      std::size_t n_graph = 0;
      for (std::size_t i = 0; i < calls[n].size(); ++i) {
        n_graph += calls[n][i] == Way::graph;
        expect(i < 1 || calls[n][i] != calls[n][i - 1], "the ways take turns");
      }
      expect(calls[n].size() == 12 && n_graph == 6, "as often as each other");
    }
  }
}

void a_cold_first_round_does_not_count() {
  FasterWay way(Way::index);
  std::map<std::size_t, int> n_calls;
  way.measure([&](std::size_t n) {
    const bool is_first = n_calls[n]++ < 2;
    if (is_first || way.of(n) == Way::index) {
      std::this_thread::sleep_for(std::chrono::milliseconds(is_first ? 20 : 1));
    }
  });
  for (const std::size_t n : kSizes) {
    expect(way.of(n) == Way::graph && way.times_us().at(n).graph < 1000, "the first round");
  }
}

}  // namespace

int main() {
  one_way_is_taken_for_all_sizes_until_they_are_measured();
  each_size_gets_the_faster_way();
  a_cold_first_round_does_not_count();
  if (n_errors == 0) std::puts("the faster way is taken");
  return n_errors == 0 ? 0 : 1;
}
