#include "src/search/selection.hpp"

#include <algorithm>
#include <utility>

#include "src/search/group_values.hpp"

namespace shortlist {

Selection::Selection(const Variety& variety, std::size_t number, std::size_t top_n)
    : variety_(variety),
      at_most_(variety.at_most + number * variety.n_columns),
      at_least_(variety.at_least + number * variety.n_quotas),
      top_n_(top_n),
      counts_(variety.n_columns),
      n_counted_(variety.n_quotas) {}

bool Selection::has_quotas() const {
  return std::any_of(at_least_, at_least_ + variety_.n_quotas,
                     [](auto least) { return least > 0; });
}

bool Selection::is_phase_over() const {
  if (picks_.size() == top_n_) return true;
  return phase_ < variety_.n_quotas && n_counted_[phase_] >= at_least_[phase_];
}

bool Selection::may_take(std::int64_t row) const {
  if (phase_ < variety_.n_quotas && variety_.quotas[phase_][row] == 0) return false;
  if (taken_.count(row) != 0) return false;
  bool is_free = true;
  for (std::size_t column = 0; column < variety_.n_columns && is_free; ++column) {
    if (at_most_[column] == 0) continue;
    each_value(variety_.columns[column], row, [&](std::int32_t value) {
      const auto known = counts_[column].find(value);
      is_free = is_free && (known == counts_[column].end() || known->second < at_most_[column]);
    });
  }
  return is_free;
}

void Selection::take(const Neighbor& item) {
  picks_.push_back(item);
  taken_.insert(item.row);
  for (std::size_t column = 0; column < variety_.n_columns; ++column) {
    each_value(variety_.columns[column], item.row,
               [&](std::int32_t value) { ++counts_[column][value]; });
  }
  for (std::size_t quota = 0; quota < variety_.n_quotas; ++quota) {
    n_counted_[quota] += variety_.quotas[quota][item.row] != 0;
  }
}

void Selection::offer(std::vector<Neighbor> list, bool is_all, std::size_t most) {
  const std::vector<Neighbor>* from = &list;
  if (is_first_) {
    best_ = std::move(list);
    best_is_all_ = is_all;
    is_first_ = false;
    from = &best_;
  }
  std::size_t n_taken = 0;
  for (;;) {
    for (auto item = from->begin(); item != from->end() && !is_phase_over(); ++item) {
      if (!may_take(item->row)) continue;
      take(*item);
      if (++n_taken == most) return;
    }
    if (!is_phase_over() && !is_all) return;
    end_phase();
    if (is_done()) return;
    from = &best_;
    is_all = best_is_all_;
  }
}

void Selection::narrow(std::vector<unsigned char>* mask) const {
  for (std::size_t column = 0; column < variety_.n_columns; ++column) {
    if (at_most_[column] > 0) narrow_by_cap(column, mask);
  }
  if (phase_ < variety_.n_quotas) {
    const unsigned char* const counts = variety_.quotas[phase_];
    for (std::size_t row = 0; row < mask->size(); ++row) {
      (*mask)[row] = static_cast<unsigned char>((*mask)[row] & (counts[row] != 0 ? 0xFF : 0));
    }
  }
  for (const Neighbor& pick : picks_) (*mask)[static_cast<std::size_t>(pick.row)] = 0;
}

void Selection::narrow_by_cap(std::size_t at, std::vector<unsigned char>* mask) const {
  const GroupColumn& column = variety_.columns[at];
  std::vector<unsigned char> is_full;
  for (const auto& [value, count] : counts_[at]) {
    if (count < at_most_[at]) continue;
    const auto number = static_cast<std::size_t>(value);
    is_full.resize(std::max(is_full.size(), number + 1));
    is_full[number] = 1;
  }
  if (is_full.empty()) return;
  const auto is_blocked = [&](std::int32_t value) {
    const auto place = static_cast<std::size_t>(value);  // a negative one is very large
    return place < is_full.size() && is_full[place] != 0;
  };
  for (std::size_t row = 0; row < mask->size(); ++row) {
    const std::int64_t* const splits = column.splits;
    const bool blocks =
        splits == nullptr
            ? is_blocked(column.values[row])
            : std::any_of(column.values + splits[row], column.values + splits[row + 1], is_blocked);
    if (blocks) (*mask)[row] = 0;
  }
}

void Selection::write_missing(std::int64_t* missing) const {
  for (std::size_t quota = 0; quota < variety_.n_quotas; ++quota) {
    missing[quota] = std::max(0, at_least_[quota] - n_counted_[quota]);
  }
}

}  // namespace shortlist
