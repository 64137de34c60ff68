// What of a request can be left out, and the request without it.
#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "engine/reasons.hpp"

namespace shortlist::engine {
namespace {

constexpr std::size_t kNoPiece = static_cast<std::size_t>(-1);

}  // namespace

Evidence::Evidence(const std::vector<BoundColumn>& bound, std::size_t i, const IndexView& known,
                   std::size_t max_history, const std::int64_t* groups)
    : bound_(bound), request_(i) {
  find_items(known, max_history, groups);
  find_features();
}

// What is older than the graph looks is a piece with a newer one of its item or group, or none.
void Evidence::find_items(const IndexView& known, std::size_t max_history,
                          const std::int64_t* groups) {
  const auto history = std::find_if(bound_.begin(), bound_.end(), [](const BoundColumn& column) {
    return column.input->name == "history";
  });
  if (history == bound_.end() || history->given == nullptr) return;
  const auto [from, size] = span_of(*history->given, request_);
  piece_of_.assign(size, kNoPiece);
  std::unordered_map<std::int64_t, std::size_t> pieces;
  std::size_t n_known = 0;
  for (std::size_t entry = size; entry-- > 0;) {
    const std::int64_t row = row_in(known, *history, from + entry);
    if (row < 0) continue;
    const std::int64_t group = groups == nullptr ? -1 : groups[row];
    const std::int64_t key = group < 0 ? -1 - row : group;
    const auto found = pieces.find(key);
    if (found != pieces.end()) {
      piece_of_[entry] = found->second;
    } else if (n_known < max_history) {
      pieces.emplace(key, what_.size());
      piece_of_[entry] = what_.size();
      what_.push_back(row);
    }
    ++n_known;
  }
}

void Evidence::find_features() {
  for (std::size_t number = 0; number < bound_.size(); ++number) {
    const BoundColumn& column = bound_[number];
    if (is_history(*column.input) || column.given == nullptr) continue;
    const auto [from, size] = span_of(*column.given, request_);
    bool has_value = false;
    for (std::size_t k = from; k < from + size && !has_value; ++k) has_value = is_given(column, k);
    if (has_value) what_.push_back(feature_reason(number));
  }
}

bool Evidence::keeps_some_item(const std::vector<std::size_t>& pieces) const {
  const auto is_item = [this](std::size_t piece) { return what_[piece] >= 0; };
  const auto n_items =
      std::count_if(what_.begin(), what_.end(), [](std::int64_t what) { return what >= 0; });
  return n_items > std::count_if(pieces.begin(), pieces.end(), is_item);
}

void Evidence::add_without(const std::vector<std::size_t>& pieces,
                           std::vector<ColumnValues>* columns) const {
  const auto is_left_out = [&pieces](std::size_t piece) {
    return std::find(pieces.begin(), pieces.end(), piece) != pieces.end();
  };
  std::size_t at = 0;
  for (std::size_t number = 0; number < bound_.size(); ++number) {
    const BoundColumn& column = bound_[number];
    if (column.given == nullptr) continue;
    ColumnValues& values = (*columns)[at++];
    const Span span = span_of(*column.given, request_);
    if (is_history(*column.input)) {
      std::size_t first = 0;  // of a run of entries that stay
      for (std::size_t entry = 0; entry <= span.size; ++entry) {
        if (entry < span.size && !is_left_out(piece_of_[entry])) continue;
        values.add(*column.given, {span.from + first, entry - first});
        first = entry + 1;
      }
    } else if (std::any_of(pieces.begin(), pieces.end(), [&](std::size_t piece) {
                 return what_[piece] == feature_reason(number);
               })) {
      values.add_missing(is_ragged(*column.input) ? 0 : span.size);
    } else {
      values.add(*column.given, span);
    }
    values.end_request();
  }
}

}  // namespace shortlist::engine
