// The items of a loaded bundle at one moment, and how the next moment is made (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "ort_op/search_call.hpp"
#include "shortlist/index.hpp"

namespace shortlist::engine {

// Immutable; a call reads one of them from its beginning to its end.
class [[gnu::visibility("default")]] Catalogue final : public ort_op::PopularItems {
 public:
  // As the bundle was exported: row r has the code r + 1, and the graph knows what is popular.
  explicit Catalogue(IndexView view) : view_(std::move(view)), is_as_exported_(true) {}
  // Rows of the view with their codes (0 = the graphs do not know the item), and their scores for
  // requests of which nothing is known. Removed rows have any.
  Catalogue(IndexView view, std::vector<std::int64_t> codes, std::vector<float> popularity);

  const IndexView& view() const { return view_; }
  bool is_as_exported() const { return is_as_exported_; }
  const std::vector<std::int64_t>& codes() const { return codes_; }
  const std::vector<float>& popularity() const { return popularity_; }
  // Best first, ties by the lower row; sorted at the first call. @pre !is_as_exported()
  ort_op::RankedRows ranked() const override;

 private:
  IndexView view_;
  bool is_as_exported_ = false;
  std::vector<std::int64_t> codes_;
  std::vector<float> popularity_;
  mutable std::once_flag is_ranked_;
  mutable std::vector<std::int64_t> ranked_rows_;
  mutable std::vector<float> ranked_scores_;
};

// What each row of a catalogue is; of the one that was exported all is told here.
struct RowFacts {
  std::vector<std::int64_t> codes;
  std::vector<float> popularity;
};

// Scores of items for requests of which nothing is known: popularity[i] is that of ids[i].
struct Popularity {
  const ItemIds& ids;
  const float* scores;
};

// The facts after `ids` are put into the index, where new ones get the next rows in their order.
// New items have the score 0 unless `popularity` (null = nothing new) says otherwise.
RowFacts after_upsert(const IndexView& before, RowFacts facts, const ItemIds& ids,
                      const Popularity* popularity);
// The same after they are removed.
RowFacts after_remove(const IndexView& before, RowFacts facts, const ItemIds& ids);
// The same after the index has given back the rows of removed items: the others keep their order.
RowFacts without_gaps(const Catalogue& catalogue);

}  // namespace shortlist::engine
