#include "engine/catalogue.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "src/system/forks.hpp"

namespace shortlist::engine {
namespace {

// The row in a view, or the place among other ids.
template <class Rows>
std::int64_t row_of(const Rows& in, const ItemIds& ids, std::size_t i) {
  return ids.kind() == ItemIds::Kind::string ? in.row_of(ids.string_at(i))
                                             : in.row_of(ids.int64_at(i));
}

}  // namespace

Catalogue::Catalogue(IndexView view, std::vector<std::int64_t> codes, std::vector<float> popularity)
    : view_(std::move(view)), codes_(std::move(codes)), popularity_(std::move(popularity)) {}

ort_op::RankedRows Catalogue::ranked() const {
  std::call_once(is_ranked_, [this] {
    std::vector<std::int64_t> rows;  // a fork may leave this begun, and the child begins again
    std::vector<float> scores;
    for (std::size_t row = 0; row < codes_.size(); ++row) {
      if (view_.is_known(row)) rows.push_back(static_cast<std::int64_t>(row));
    }
    const auto score = [this](std::int64_t row) {
      return popularity_[static_cast<std::size_t>(row)];
    };
    std::stable_sort(rows.begin(), rows.end(), [&score](std::int64_t one, std::int64_t other) {
      return score(one) > score(other);
    });
    for (const std::int64_t row : rows) scores.push_back(score(row));
    const Uncut uncut;
    ranked_rows_ = std::move(rows);
    ranked_scores_ = std::move(scores);
  });
  return {ranked_rows_.data(), ranked_scores_.data(), ranked_rows_.size()};
}

RowFacts after_upsert(const IndexView& before, RowFacts facts, const ItemIds& ids,
                      const Popularity* popularity) {
  std::vector<std::int64_t> rows(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    rows[i] = row_of(before, ids, i);
    if (rows[i] >= 0) continue;
    rows[i] = static_cast<std::int64_t>(facts.codes.size());
    facts.codes.push_back(0);
    facts.popularity.push_back(0);
  }
  for (std::size_t i = 0; popularity != nullptr && i < popularity->ids.size(); ++i) {
    std::int64_t row = row_of(before, popularity->ids, i);
    if (row < 0) {
      const std::int64_t place = row_of(ids, popularity->ids, i);
      row = place < 0 ? -1 : rows[static_cast<std::size_t>(place)];
    }
    if (row >= 0) facts.popularity[static_cast<std::size_t>(row)] = popularity->scores[i];
  }
  return facts;
}

RowFacts after_remove(const IndexView& before, RowFacts facts, const ItemIds& ids) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t row = row_of(before, ids, i);
    if (row >= 0) facts.codes[static_cast<std::size_t>(row)] = 0;
  }
  return facts;
}

RowFacts without_gaps(const Catalogue& catalogue) {
  RowFacts facts;
  for (std::size_t row = 0; row < catalogue.view().n_rows(); ++row) {
    if (!catalogue.view().is_known(row)) continue;
    facts.codes.push_back(catalogue.codes()[row]);
    facts.popularity.push_back(catalogue.popularity()[row]);
  }
  return facts;
}

}  // namespace shortlist::engine
