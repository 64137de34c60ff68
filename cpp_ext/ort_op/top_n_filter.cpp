#include "top_n_filter.hpp"

#include <algorithm>
#include <string>

#include "top_n_kernel.hpp"

namespace shortlist::ort_op {
namespace {

// An input that is left out, or that has no values.
bool read_some(const OrtApi& api, const OrtKernelContext* context, std::size_t number,
               Tensor* tensor) {
  return read_input(api, context, number, tensor) && tensor->size > 0;
}

void check_splits(const Tensor& splits, std::size_t n_lists, const Tensor& values,
                  const std::string& name) {
  const std::int64_t* begin = splits.as<std::int64_t>();
  if (splits.shape != std::vector<std::int64_t>{static_cast<std::int64_t>(n_lists) + 1}) {
    throw_bad_input(name + "_splits", "shape " + to_text(splits.shape),
                    "(" + std::to_string(n_lists + 1) + ",): one more than queries");
  }
  if (begin[0] != 0 || !std::is_sorted(begin, begin + n_lists + 1) ||
      begin[n_lists] != static_cast<std::int64_t>(values.size)) {
    throw_bad_input(name + "_splits", "other numbers",
                    "ascending ones from 0 to " + std::to_string(values.size) +
                        ", the number of values in " + name);
  }
}

std::vector<std::int64_t> sorted_list(const RaggedRows& rows, std::size_t query) {
  std::vector<std::int64_t> list(rows.values + rows.splits[query],
                                 rows.values + rows.splits[query + 1]);
  std::sort(list.begin(), list.end());
  return list;
}

}  // namespace

TopNFilter::TopNFilter(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries,
                       std::size_t n_rows) {
  read_exclude(api, context, n_queries);
  add_exclude(api, context, n_queries);
  add_seen(api, context, n_queries);
  read_allow(api, context, n_queries);
  read_mask(api, context, n_rows);
}

void TopNFilter::read_exclude(const OrtApi& api, const OrtKernelContext* context,
                              std::size_t n_queries) {
  Tensor exclude, splits;
  if (!read_input(api, context, TopNKernel::kExclude, &exclude)) return;
  const std::int64_t n = static_cast<std::int64_t>(n_queries);
  if (read_input(api, context, TopNKernel::kExcludeSplits, &splits)) {
    check_splits(splits, n_queries, exclude, "exclude");
    filter_.exclude = {exclude.as<std::int64_t>(), splits.as<std::int64_t>()};
    return;
  }
  if (exclude.shape.size() != 2 || exclude.shape[0] != n) {
    throw_bad_input("exclude", "shape " + to_text(exclude.shape),
                    "(" + std::to_string(n) + ", width), or flat with exclude_splits");
  }
  for (std::int64_t query = 0; query <= n; ++query) splits_.push_back(query * exclude.shape[1]);
  filter_.exclude = {exclude.as<std::int64_t>(), splits_.data()};
}

// Appends the lists of also_exclude.
void TopNFilter::add_exclude(const OrtApi& api, const OrtKernelContext* context,
                             std::size_t n_queries) {
  Tensor also, splits;
  if (!read_some(api, context, TopNKernel::kAlsoExcludeSplits, &splits)) return;
  read_input(api, context, TopNKernel::kAlsoExclude, &also);
  check_splits(splits, n_queries, also, "also_exclude");
  const RaggedRows more = {also.as<std::int64_t>(), splits.as<std::int64_t>()};
  const RaggedRows first = filter_.exclude;
  std::vector<std::int64_t> ends = {0};
  for (std::size_t query = 0; query < n_queries; ++query) {
    for (const RaggedRows& rows : {first, more}) {
      if (rows.splits == nullptr) continue;
      values_.insert(values_.end(), rows.values + rows.splits[query],
                     rows.values + rows.splits[query + 1]);
    }
    ends.push_back(static_cast<std::int64_t>(values_.size()));
  }
  splits_ = std::move(ends);
  filter_.exclude = {values_.data(), splits_.data()};
}

// Appends the rows of seen_codes while exclude_seen is true.
void TopNFilter::add_seen(const OrtApi& api, const OrtKernelContext* context,
                          std::size_t n_queries) {
  Tensor seen, is_on;
  if (!read_input(api, context, TopNKernel::kSeenCodes, &seen)) return;
  if (seen.shape.size() != 2 || seen.shape[0] != static_cast<std::int64_t>(n_queries)) {
    throw_bad_input("seen_codes", "shape " + to_text(seen.shape),
                    "(" + std::to_string(n_queries) + ", width)");
  }
  if (read_input(api, context, TopNKernel::kExcludeSeen, &is_on)) {
    if (is_on.size != 1) throw_bad_input("exclude_seen", "shape " + to_text(is_on.shape), "one");
    if (!*is_on.as<bool>()) return;
  }
  const RaggedRows first = filter_.exclude;
  const std::size_t width = static_cast<std::size_t>(seen.shape[1]);
  std::vector<std::int64_t> values, ends = {0};
  for (std::size_t query = 0; query < n_queries; ++query) {
    if (first.splits != nullptr) {
      values.insert(values.end(), first.values + first.splits[query],
                    first.values + first.splits[query + 1]);
    }
    for (std::size_t i = query * width; i < (query + 1) * width; ++i) {
      const std::int64_t code = seen.as<std::int64_t>()[i];
      if (code > 0) values.push_back(code - 1);
    }
    ends.push_back(static_cast<std::int64_t>(values.size()));
  }
  values_ = std::move(values);
  splits_ = std::move(ends);
  filter_.exclude = {values_.data(), splits_.data()};
}

void TopNFilter::read_allow(const OrtApi& api, const OrtKernelContext* context,
                            std::size_t n_queries) {
  static const std::int64_t kNone = -1;
  Tensor allow, splits;
  if (!read_some(api, context, TopNKernel::kAllowSplits, &splits)) return;
  read_input(api, context, TopNKernel::kAllow, &allow);
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

void TopNFilter::read_mask(const OrtApi& api, const OrtKernelContext* context, std::size_t n_rows) {
  Tensor mask;
  if (!read_some(api, context, TopNKernel::kAllowMask, &mask)) return;
  if (mask.size != n_rows) {
    throw_bad_input("allow_mask", "shape " + to_text(mask.shape),
                    "(" + std::to_string(n_rows) + ",), a byte for each row of the index");
  }
  if (filter_.allow.splits != nullptr || filter_.allow_rows != nullptr) {
    throw_bad_input("allow_mask", "it beside allow", "at most one of them");
  }
  filter_.allow_mask = mask.as<unsigned char>();
}

Filter TopNFilter::from(std::size_t first) const {
  Filter filter = filter_;
  if (filter.exclude.splits != nullptr) filter.exclude.splits += first;
  if (filter.allow.splits != nullptr) filter.allow.splits += first;
  return filter;
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
}

bool AllowedRows::contains(std::int64_t row) const {
  const auto is_in = [row](const std::vector<std::int64_t>& list) {
    return std::binary_search(list.begin(), list.end(), row);
  };
  if (is_in(excluded_) || (has_list_ && !is_in(allowed_))) return false;
  return mask_ == nullptr || (static_cast<std::size_t>(row) < n_rows_ && mask_[row] != 0);
}

}  // namespace shortlist::ort_op
