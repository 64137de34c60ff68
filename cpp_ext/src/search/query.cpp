#include "src/search/query.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "src/rows/exact.hpp"
#include "src/rows/normalize.hpp"

namespace shortlist {
namespace {

// An exact score costs about as much as scanning this many items. Benchmark: benchmarks/top_n.py,
// where --kind all_equal scores every item and the default scans.
constexpr std::size_t kScanAdvantage = 16;

// Counts the rows that are not negative; one past the last is refused.
std::size_t count_rows(const std::int64_t* begin, const std::int64_t* end, std::size_t n_rows,
                       const char* name) {
  std::size_t n_real = 0;
  for (const std::int64_t* row = begin; row != end; ++row) {
    if (*row >= static_cast<std::int64_t>(n_rows)) {
      throw std::invalid_argument(std::string(name) + ": got row " + std::to_string(*row) +
                                  "; the index has " + std::to_string(n_rows) + " rows");
    }
    n_real += *row >= 0;
  }
  return n_real;
}

std::vector<std::int64_t> sorted_rows(const std::int64_t* begin, const std::int64_t* end,
                                      std::size_t n_rows, const char* name) {
  std::vector<std::int64_t> rows;
  rows.reserve(count_rows(begin, end, n_rows, name));
  std::copy_if(begin, end, std::back_inserter(rows), [](std::int64_t row) { return row >= 0; });
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

RowSet row_set(const std::int64_t* begin, const std::int64_t* end, std::size_t n_rows,
               const char* name) {
  return RowSet(begin, end, count_rows(begin, end, n_rows, name));
}

bool contains(const std::vector<std::int64_t>& rows, std::int64_t row) {
  return std::binary_search(rows.begin(), rows.end(), row);
}

}  // namespace

SharedAllow::SharedAllow(const unsigned char* allow_mask, std::size_t n_rows) : is_set(true) {
  const std::size_t n_allowed =
      n_rows - static_cast<std::size_t>(std::count(allow_mask, allow_mask + n_rows, 0));
  if (n_allowed * kScanAdvantage >= n_rows) {
    mask = allow_mask;
    return;
  }
  for (std::size_t row = 0; row < n_rows; ++row) {
    if (allow_mask[row] != 0) rows.push_back(static_cast<std::int64_t>(row));
  }
}

SharedAllow::SharedAllow(const std::int64_t* allow_rows, std::size_t n_allow_rows,
                         std::size_t n_rows)
    : is_set(true), rows(sorted_rows(allow_rows, allow_rows + n_allow_rows, n_rows, "allow")) {
  if (rows.size() * kScanAdvantage < n_rows) return;
  owned_mask.assign(n_rows, 0);
  for (const std::int64_t row : rows) owned_mask[static_cast<std::size_t>(row)] = 1;
  mask = owned_mask.data();
}

SharedAllows::SharedAllows(const Filter& filter, std::size_t n_queries, std::size_t n_rows) {
  if (filter.allow_mask != nullptr) {
    forms_.emplace_back(filter.allow_mask, n_rows);
  } else if (filter.allow_rows != nullptr) {
    forms_.emplace_back(filter.allow_rows, filter.n_allow_rows, n_rows);
  } else if (filter.mask_of == nullptr) {
    forms_.emplace_back();
  } else {
    std::unordered_map<std::int64_t, std::size_t> forms;
    for (std::size_t query = 0; query < n_queries; ++query) {
      const std::int64_t number = filter.mask_of[query];
      const auto [form, is_new] = forms.try_emplace(number, forms_.size());
      if (is_new) {
        const unsigned char* const mask = filter.allow_masks[static_cast<std::size_t>(number)];
        forms_.push_back(mask == nullptr ? SharedAllow() : SharedAllow(mask, n_rows));
      }
      form_of_.push_back(form->second);
    }
  }
}

void interleave(const std::int8_t* const* codes, std::size_t n_queries, std::size_t n_groups,
                std::int8_t* out) {
  constexpr std::size_t kGroupDims = kernels::kGroupDims;
  for (std::size_t q = 0; q < n_queries; ++q) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      std::memcpy(out + (g * n_queries + q) * kGroupDims, codes[q] + g * kGroupDims, kGroupDims);
    }
  }
}

PreparedQuery::PreparedQuery(const Snapshot& snapshot, const kernels::Table& table,
                             const float* query, const Filter& filter, const SharedAllow& shared,
                             std::size_t number)
    : metric_(snapshot.metric) {
  const std::size_t dim = snapshot.dim;
  std::vector<float> normalized;
  if (metric_ == Metric::cosine) {
    normalized.resize(dim);
    normalize_row(query, dim, normalized.data());
    query = normalized.data();
  }
  exact_.assign((dim + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes, 0.0);
  for (std::size_t d = 0; d < dim; ++d) exact_[d] = static_cast<double>(query[d]);
  square_ = squared_norm(query, dim);
  bound_.norm = std::sqrt(square_) * (1 + 1e-9);
  const bool is_short = has_short_codes(snapshot.storage);
  codes_ = round_to(is_short ? kernels::kNibbleQueryMax : table.query_max, dim);
  bound_.residual = codes_.residual;
  bound_.inverse_scale = codes_.inverse_scale;
  const double short_offset = snapshot.storage == Storage::disk6 ? kSixBitOffset : kShortCodeOffset;
  bound_.offset = (is_short ? short_offset : kernels::kCodeOffset) * codes_.sum;
  nibble_offset_ = is_short ? kShortCodeOffset : kernels::kNibbleOffset;
  for (const SegmentView& view : snapshot.segments) {
    if (view.segment->packed.nibbles == nullptr) continue;
    nibble_codes_ = round_to(kernels::kNibbleQueryMax, dim);
    break;
  }
  n_allowed_ = snapshot.n_items;
  set_filter(filter, shared, number, snapshot.n_rows);
}

PreparedQuery::Codes PreparedQuery::round_to(std::int32_t query_max, std::size_t dim) const {
  Codes rounded;
  rounded.codes.assign(n_groups_for(dim) * kernels::kGroupDims, 0);
  double largest = 0;
  for (std::size_t d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(exact_[d]));
  const double scale = largest > 0 ? largest / query_max : 1.0;
  const double inverse = largest > 0 ? query_max / largest : 0.0;
  double residual_square = 0;
  std::int64_t code_sum = 0;
  for (std::size_t d = 0; d < dim; ++d) {
    // Adding and subtracting 1.5 * 2^52 rounds to the nearest integer.
    const double code = (exact_[d] * inverse + 6755399441055744.0) - 6755399441055744.0;
    const double error = exact_[d] - scale * code;
    residual_square += error * error;
    rounded.codes[d] = static_cast<std::int8_t>(code);
    code_sum += rounded.codes[d];
  }
  rounded.residual = std::sqrt(residual_square) * (1 + 1e-9) + 1e-12 * bound_.norm;
  rounded.inverse_scale = 1.0 / scale;
  rounded.sum = static_cast<double>(code_sum);
  return rounded;
}

kernels::QueryBound PreparedQuery::nibble_bound(const kernels::QueryBound& bound) const {
  kernels::QueryBound nibble = bound;
  nibble.residual = nibble_codes_.residual;
  nibble.inverse_scale = nibble_codes_.inverse_scale;
  nibble.offset = nibble_offset_ * nibble_codes_.sum;
  return nibble;
}

kernels::QueryBound PreparedQuery::bound_for(float score) const {
  kernels::QueryBound bound = bound_;
  // The item must reach a score above `below`, the float32 just under `score`.
  const double below =
      static_cast<double>(std::nextafter(score, -std::numeric_limits<float>::infinity()));
  if (metric_ != Metric::euclidean) {
    bound.needed = below;
    bound.slack = 0;
  } else {
    // ||u - x|| < distance  <=>  u.x - ||x||^2 / 2 > (||u||^2 - distance^2) / 2
    const double distance_square = below * below;
    bound.needed = (square_ - distance_square) / 2;
    bound.slack = 1e-9 * distance_square + 1e-11 * square_;
  }
  return bound;
}

float PreparedQuery::score_of(double product) const {
  if (metric_ != Metric::euclidean) return to_score(metric_, product);
  return to_score(metric_, std::max(0.0, square_ - 2 * product));
}

void PreparedQuery::set_filter(const Filter& filter, const SharedAllow& shared, std::size_t number,
                               std::size_t n_rows) {
  if (filter.exclude.splits != nullptr) {
    const RaggedRows& lists = filter.exclude;
    excluded_ = row_set(lists.values + lists.splits[number],
                        lists.values + lists.splits[number + 1], n_rows, "exclude");
  }
  if (filter.allow.splits != nullptr) {
    has_own_list_ = true;
    const RaggedRows& lists = filter.allow;
    allowed_ = sorted_rows(lists.values + lists.splits[number],
                           lists.values + lists.splits[number + 1], n_rows, "allow");
    n_allowed_ = std::min(n_allowed_, allowed_.size());
    if (allowed_.size() * kScanAdvantage < n_rows) short_list_ = &allowed_;
  } else if (shared.is_set) {
    shared_ = &shared;
    if (shared.mask == nullptr) {
      short_list_ = &shared.rows;
      n_allowed_ = std::min(n_allowed_, shared.rows.size());
    }
  }
  is_filtered_ = !excluded_.is_empty() || has_own_list_ || shared_ != nullptr;
}

bool PreparedQuery::passes_filter(std::int64_t row) const {
  if (excluded_.contains(row)) return false;
  if (has_own_list_) return contains(allowed_, row);
  if (shared_ == nullptr) return true;
  return shared_->mask != nullptr ? shared_->mask[row] != 0 : contains(shared_->rows, row);
}

}  // namespace shortlist
