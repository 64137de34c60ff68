#include "ort_op/top_n_filter.hpp"

#include <algorithm>
#include <string>

#include "ort_op/top_n_kernel.hpp"

namespace shortlist::ort_op {
namespace {

// An input that is left out, or that has no values.
bool read_some(const OrtApi& api, const OrtKernelContext* context, std::size_t number,
               Tensor* tensor) {
  return read_input(api, context, number, tensor) && tensor->size > 0;
}

void check_matrix(const Tensor& values, std::size_t n_queries, const std::string& name,
                  const std::string& or_else) {
  if (values.shape.size() == 2 && values.shape[0] == static_cast<std::int64_t>(n_queries)) return;
  throw_bad_input(name, "shape " + to_text(values.shape),
                  "(" + std::to_string(n_queries) + ", width)" + or_else);
}

std::vector<std::int64_t> sorted_list(const RaggedRows& rows, std::size_t query) {
  std::vector<std::int64_t> list(rows.values + rows.splits[query],
                                 rows.values + rows.splits[query + 1]);
  std::sort(list.begin(), list.end());
  return list;
}

}  // namespace

void check_splits(const Tensor& splits, std::size_t n_lists, const Tensor& values,
                  const std::string& name, const char* of) {
  const std::int64_t* begin = splits.as<std::int64_t>();
  if (splits.shape != std::vector<std::int64_t>{static_cast<std::int64_t>(n_lists) + 1}) {
    throw_bad_input(name + "_splits", "shape " + to_text(splits.shape),
                    "(" + std::to_string(n_lists + 1) + ",): one more than " + of);
  }
  if (begin[0] != 0 || !std::is_sorted(begin, begin + n_lists + 1) ||
      begin[n_lists] != static_cast<std::int64_t>(values.size)) {
    throw_bad_input(name + "_splits", "other numbers",
                    "ascending ones from 0 to " + std::to_string(values.size) +
                        ", the number of values in " + name);
  }
}

TopNFilter::TopNFilter(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries,
                       std::size_t n_searched, std::size_t n_rows, const Filter* call)
    : api_(api), context_(context) {
  if (call != nullptr) filter_ = *call;
  read_exclude(n_queries);
  read_also_exclude(n_queries);
  read_seen(n_queries);
  if (filter_.exclude.splits != nullptr && !lists_.empty()) {
    lists_.push_back({filter_.exclude.values, filter_.exclude.splits, 0, 0});
  }
  join_lists(n_searched);
  read_allow(n_queries);
  read_mask(n_rows);
}

void TopNFilter::read_exclude(std::size_t n_queries) {
  Tensor exclude, splits;
  if (!read_input(api_, context_, TopNKernel::kExclude, &exclude)) return;
  if (read_input(api_, context_, TopNKernel::kExcludeSplits, &splits)) {
    check_splits(splits, n_queries, exclude, "exclude");
    lists_.push_back({exclude.as<std::int64_t>(), splits.as<std::int64_t>(), 0, 0});
    return;
  }
  check_matrix(exclude, n_queries, "exclude", ", or flat with exclude_splits");
  lists_.push_back(
      {exclude.as<std::int64_t>(), nullptr, static_cast<std::size_t>(exclude.shape[1]), 0});
}

void TopNFilter::read_also_exclude(std::size_t n_queries) {
  Tensor also, splits;
  if (!read_some(api_, context_, TopNKernel::kAlsoExcludeSplits, &splits)) return;
  read_input(api_, context_, TopNKernel::kAlsoExclude, &also);
  check_splits(splits, n_queries, also, "also_exclude");
  lists_.push_back({also.as<std::int64_t>(), splits.as<std::int64_t>(), 0, 0});
}

void TopNFilter::read_seen(std::size_t n_queries) {
  Tensor codes, exclude;
  if (!read_input(api_, context_, TopNKernel::kSeenCodes, &codes)) return;
  const bool is_told = read_some(api_, context_, TopNKernel::kExcludeSeen, &exclude);
  if (is_told && !*exclude.as<bool>()) return;
  check_matrix(codes, n_queries, "seen_codes", "");
  lists_.push_back(
      {codes.as<std::int64_t>(), nullptr, static_cast<std::size_t>(codes.shape[1]), 1});
}

// One list a query out of all.
void TopNFilter::join_lists(std::size_t n_queries) {
  if (lists_.empty()) return;
  if (lists_.size() == 1 && lists_[0].splits != nullptr) {
    filter_.exclude = {lists_[0].values, lists_[0].splits};
    return;
  }
  splits_.reserve(n_queries + 1);
  splits_.push_back(0);
  for (std::size_t query = 0; query < n_queries; ++query) {
    for (const Lists& lists : lists_) {
      const bool is_flat = lists.splits != nullptr;
      const std::int64_t* const row =
          lists.values +
          (is_flat ? static_cast<std::size_t>(lists.splits[query]) : query * lists.width);
      const std::size_t n =
          is_flat ? static_cast<std::size_t>(lists.splits[query + 1] - lists.splits[query])
                  : lists.width;
      for (std::size_t i = 0; i < n; ++i) {
        // A value far below 0 must not wrap around.
        if (row[i] >= lists.offset) values_.push_back(row[i] - lists.offset);
      }
    }
    splits_.push_back(static_cast<std::int64_t>(values_.size()));
  }
  filter_.exclude = {values_.data(), splits_.data()};
}

void TopNFilter::read_allow(std::size_t n_queries) {
  static const std::int64_t kNone = -1;
  Tensor allow, splits;
  if (!read_some(api_, context_, TopNKernel::kAllowSplits, &splits)) return;
  read_input(api_, context_, TopNKernel::kAllow, &allow);
  const bool is_shared = splits.size == 2;
  check_splits(splits, is_shared ? 1 : n_queries, allow, "allow");
  const std::int64_t* values = allow.size > 0 ? allow.as<std::int64_t>() : &kNone;
  if (is_shared) {
    filter_.allow_rows = values;
    filter_.n_allow_rows = allow.size;
  } else {
    filter_.allow = {values, splits.as<std::int64_t>()};
  }
}

void TopNFilter::read_mask(std::size_t n_rows) {
  Tensor mask;
  if (!read_some(api_, context_, TopNKernel::kAllowMask, &mask)) return;
  if (mask.size != n_rows) {
    throw_bad_input("allow_mask", "shape " + to_text(mask.shape),
                    "(" + std::to_string(n_rows) + ",), a byte for each row of the index");
  }
  if (filter_.allow.splits != nullptr || filter_.allow_rows != nullptr) {
    throw_bad_input("allow_mask", "it beside allow", "at most one of them");
  }
  filter_.allow_mask = mask.as<unsigned char>();
}

AllowedRows::AllowedRows(const Filter& filter, std::size_t query, std::size_t n_rows)
    : mask_(filter.allow_mask), n_rows_(n_rows) {
  if (filter.exclude.splits != nullptr) excluded_ = sorted_list(filter.exclude, query);
  has_list_ = filter.allow.splits != nullptr || filter.allow_rows != nullptr;
  if (filter.allow.splits != nullptr) allowed_ = sorted_list(filter.allow, query);
  if (filter.allow_rows != nullptr) {
    allowed_.assign(filter.allow_rows, filter.allow_rows + filter.n_allow_rows);
    std::sort(allowed_.begin(), allowed_.end());
  }
  if (filter.mask_of != nullptr) {
    mask_ = filter.allow_masks[static_cast<std::size_t>(filter.mask_of[query])];
  }
}

bool AllowedRows::contains(std::int64_t row) const {
  const auto is_in = [row](const std::vector<std::int64_t>& list) {
    return std::binary_search(list.begin(), list.end(), row);
  };
  if (is_in(excluded_) || (has_list_ && !is_in(allowed_))) return false;
  return mask_ == nullptr || (static_cast<std::size_t>(row) < n_rows_ && mask_[row] != 0);
}

}  // namespace shortlist::ort_op
