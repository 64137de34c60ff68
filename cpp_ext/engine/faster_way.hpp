// Which of two ways answers batches of each size: measured, or one of them for all (internal).
#pragma once

#include <cstddef>
#include <functional>
#include <map>

namespace shortlist::engine {

class FasterWay {
 public:
  enum class Way { index, graph };
  // Medians, in microseconds.
  struct Times {
    double index, graph;
  };

  // `way` for all sizes, until they are measured.
  explicit FasterWay(Way way) : from_batch_{{1, way}} {}

  Way of(std::size_t n_requests) const;
  // Measures both ways on batches of a few sizes, and takes the faster one for each. `answer`
  // answers so many requests by whatever `of` says. Nobody else may ask meanwhile.
  void measure(const std::function<void(std::size_t n_requests)>& answer);

  // The way from these sizes on, up to the next.
  const std::map<std::size_t, Way>& from_batch() const { return from_batch_; }
  // Of the sizes that were measured.
  const std::map<std::size_t, Times>& times_us() const { return times_us_; }

 private:
  std::map<std::size_t, Way> from_batch_;
  std::map<std::size_t, Times> times_us_;
};

}  // namespace shortlist::engine
