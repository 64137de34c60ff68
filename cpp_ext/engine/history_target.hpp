// What requests are calibrated to where that is their own history (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/columns.hpp"
#include "shortlist/index.hpp"
#include "shortlist/variety.hpp"

namespace shortlist::engine {

// The shares of a column's values in the histories of requests first .. first + n of `bound`, which
// are 0 .. n of `given`: each item counts alike, and its values share alike in it. Requests that
// want other shares keep those that are given.
class HistoryTarget {
 public:
  HistoryTarget(const Calibration& given, const std::vector<BoundColumn>& bound, std::size_t first,
                std::size_t n, const IndexView& items);
  HistoryTarget(const HistoryTarget&) = delete;
  HistoryTarget& operator=(const HistoryTarget&) = delete;

  // Borrowed, as `given` is.
  Calibration get() const;

 private:
  void add_history(const BoundColumn& history, std::size_t request, const IndexView& items);

  Calibration given_;
  std::vector<std::int64_t> splits_ = {0};
  std::vector<std::int32_t> values_;
  std::vector<double> shares_;
};

}  // namespace shortlist::engine
