#include "engine/catalogue.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "src/system/forks.hpp"

namespace shortlist::engine {
namespace {

std::int64_t row_of(const IndexView& view, const ItemIds& ids, std::size_t i) {
  return ids.kind() == ItemIds::Kind::string ? view.row_of(ids.string_at(i))
                                             : view.row_of(ids.int64_at(i));
}

// The index closes the gaps of removed rows now and then, in the same order: `is_item` says for
// each row that it had whether there is still an item.
void close_gaps(const std::vector<bool>& is_item, std::size_t n_rows, RowFacts* facts) {
  if (n_rows >= facts->codes.size()) return;
  std::size_t n = 0;
  for (std::size_t row = 0; row < is_item.size(); ++row) {
    if (!is_item[row]) continue;
    facts->codes[n] = facts->codes[row];
    facts->popularity[n++] = facts->popularity[row];
  }
  facts->codes.resize(n);
  facts->popularity.resize(n);
}

std::vector<bool> items_of(const IndexView& view) {
  std::vector<bool> is_item(view.n_rows());
  for (std::size_t row = 0; row < is_item.size(); ++row) is_item[row] = view.is_known(row);
  return is_item;
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

std::shared_ptr<Catalogue> after_upsert(const IndexView& before, RowFacts facts, const ItemIds& ids,
                                        const Popularity* popularity, IndexView view) {
  std::vector<bool> is_item = items_of(before);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (row_of(before, ids, i) >= 0) continue;
    is_item.push_back(true);
    facts.codes.push_back(0);
    facts.popularity.push_back(0);
  }
  close_gaps(is_item, view.n_rows(), &facts);
  for (std::size_t i = 0; popularity != nullptr && i < popularity->ids.size(); ++i) {
    const std::int64_t row = row_of(view, popularity->ids, i);
    if (row >= 0) facts.popularity[static_cast<std::size_t>(row)] = popularity->scores[i];
  }
  return std::make_shared<Catalogue>(std::move(view), std::move(facts.codes),
                                     std::move(facts.popularity));
}

std::shared_ptr<Catalogue> after_remove(const IndexView& before, RowFacts facts, const ItemIds& ids,
                                        IndexView view) {
  std::vector<bool> is_item = items_of(before);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t row = row_of(before, ids, i);
    if (row < 0) continue;
    is_item[static_cast<std::size_t>(row)] = false;
    facts.codes[static_cast<std::size_t>(row)] = 0;
  }
  close_gaps(is_item, view.n_rows(), &facts);
  return std::make_shared<Catalogue>(std::move(view), std::move(facts.codes),
                                     std::move(facts.popularity));
}

}  // namespace shortlist::engine
