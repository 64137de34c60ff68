#include "ort_op/top_n_variety.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "ort_op/top_n_kernel.hpp"

namespace shortlist::ort_op {
namespace {

constexpr std::size_t kAnyNumber = std::numeric_limits<std::int32_t>::max();

// An input of so many numbers for each row of the index.
void check_rows(const Tensor& tensor, std::size_t n, std::size_t n_rows, const char* name) {
  if (tensor.size == n * n_rows) return;
  throw_bad_input(
      name, "shape " + to_text(tensor.shape),
      "(" + std::to_string(n) + ", " + std::to_string(n_rows) + "): the rows of the index");
}

// Room is made for every value up to the greatest.
void check_values(const Tensor& groups, std::size_t n_rows) {
  const auto* const values = groups.as<std::int32_t>();
  if (groups.size == 0) return;
  const std::int32_t greatest = *std::max_element(values, values + groups.size);
  if (greatest < 0 || static_cast<std::size_t>(greatest) < 2 * n_rows + 256) return;
  throw_bad_input("groups",
                  "the value " + std::to_string(greatest) + " in an index of " +
                      std::to_string(n_rows) + " rows",
                  "values numbered from 0 without large gaps");
}

}  // namespace

TopNVariety::TopNVariety(const OrtApi& api, const OrtKernelContext* context, std::size_t n_queries,
                         std::size_t n_rows, std::size_t top_n)
    : api_(api), context_(context), n_queries_(n_queries) {
  read_caps(n_rows);
  read_quotas(n_rows, top_n);
  read_weights(n_rows);
}

void TopNVariety::read_caps(std::size_t n_rows) {
  at_most_ = counts_of(TopNKernel::kAtMost, "at_most", kAnyNumber, &variety_.n_columns);
  if (variety_.n_columns == 0) return;
  Tensor groups, splits;
  read_input(api_, context_, TopNKernel::kGroups, &groups);
  const std::size_t n_lists = variety_.n_columns * n_rows;
  const std::int64_t* begin = nullptr;
  if (read_input(api_, context_, TopNKernel::kGroupsSplits, &splits) && splits.size > 0) {
    begin = splits.as<std::int64_t>();
    check_splits(splits, n_lists, groups, "groups", "columns times rows");
  } else {
    check_rows(groups, variety_.n_columns, n_rows, "groups");
  }
  check_values(groups, n_rows);
  const auto* const values = groups.as<std::int32_t>();
  for (std::size_t column = 0; column < variety_.n_columns; ++column) {
    const std::size_t first = column * n_rows;
    columns_.push_back(begin == nullptr ? GroupColumn{values + first, nullptr}
                                        : GroupColumn{values, begin + first});
  }
  variety_.columns = columns_.data();
  variety_.at_most = at_most_.data();
}

void TopNVariety::read_quotas(std::size_t n_rows, std::size_t top_n) {
  at_least_ = counts_of(TopNKernel::kAtLeast, "at_least", top_n, &variety_.n_quotas);
  if (variety_.n_quotas == 0) return;
  Tensor quotas;
  read_input(api_, context_, TopNKernel::kQuotas, &quotas);
  check_rows(quotas, variety_.n_quotas, n_rows, "quotas");
  for (std::size_t quota = 0; quota < variety_.n_quotas; ++quota) {
    quotas_.push_back(quotas.as<unsigned char>() + quota * n_rows);
  }
  variety_.quotas = quotas_.data();
  variety_.at_least = at_least_.data();
}

void TopNVariety::read_weights(std::size_t n_rows) {
  constexpr double kMost = std::numeric_limits<double>::max();
  diversity_ = weights_of(TopNKernel::kDiversity, "diversity", 1);
  dampening_ = weights_of(TopNKernel::kDampening, "dampening", kMost);
  for (std::size_t q = 0; q < std::min(diversity_.size(), dampening_.size()); ++q) {
    if (diversity_[q] == 0 || dampening_[q] == 0) continue;
    throw_bad_input("dampening", "it beside diversity for query " + std::to_string(q),
                    "one of them: each is a rule by which the next item is chosen");
  }
  if (!diversity_.empty()) variety_.diversity = diversity_.data();
  if (dampening_.empty()) return;
  Tensor terms;
  read_input(api_, context_, TopNKernel::kDampeningTerms, &terms);
  check_rows(terms, 1, n_rows, "dampening_terms");
  const auto* const begin = terms.as<double>();
  const auto is_right = [](double term) { return term >= 0 && term <= kMost; };  // not NaN
  const double* const wrong = std::find_if_not(begin, begin + n_rows, is_right);
  if (wrong != begin + n_rows) {
    throw_bad_input("dampening_terms", std::to_string(*wrong), "numbers of 0 or more");
  }
  variety_.dampening = {begin, dampening_.data()};
}

// (n_queries, *width) of an input that is (width,) for all queries, or has a row for each.
std::vector<std::int32_t> TopNVariety::counts_of(std::size_t input, const char* name,
                                                 std::size_t most, std::size_t* width) const {
  *width = 0;
  Tensor tensor;
  if (!read_input(api_, context_, input, &tensor) || tensor.size == 0) return {};
  const bool is_shared = tensor.shape.size() == 1;
  if (!is_shared &&
      (tensor.shape.size() != 2 || tensor.shape[0] != static_cast<std::int64_t>(n_queries_))) {
    throw_bad_input(name, "shape " + to_text(tensor.shape),
                    "a number for each of them, or (" + std::to_string(n_queries_) +
                        ", so many) for each query");
  }
  *width = static_cast<std::size_t>(tensor.shape.back());
  const auto* const given = tensor.as<std::int64_t>();
  std::vector<std::int32_t> counts(n_queries_ * *width);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::int64_t count = given[is_shared ? i % *width : i];
    const auto limit = static_cast<std::int64_t>(std::min(most, kAnyNumber));
    if (count < 0 || count > limit) {
      throw_bad_input(name, std::to_string(count),
                      "0, for any number, to " + std::to_string(limit));
    }
    counts[i] = static_cast<std::int32_t>(count);
  }
  return counts;
}

// (n_queries,) of an input with one number for all queries, or one for each; empty = 0 for all.
std::vector<double> TopNVariety::weights_of(std::size_t input, const char* name,
                                            double most) const {
  Tensor tensor;
  if (!read_input(api_, context_, input, &tensor) || tensor.size == 0) return {};
  if (tensor.size != 1 && tensor.size != n_queries_) {
    throw_bad_input(name, "shape " + to_text(tensor.shape),
                    "one number, or (" + std::to_string(n_queries_) + ",): one for each query");
  }
  const auto* const given = tensor.as<double>();
  for (std::size_t i = 0; i < tensor.size; ++i) {
    if (given[i] >= 0 && given[i] <= most) continue;
    throw_bad_input(name, std::to_string(given[i]),
                    most == 1 ? "a number from 0 to 1" : "a number of 0 or more");
  }
  std::vector<double> weights(n_queries_, given[0]);
  if (tensor.size == n_queries_) std::copy_n(given, n_queries_, weights.begin());
  const bool is_none = std::all_of(weights.begin(), weights.end(), [](double w) { return w == 0; });
  return is_none ? std::vector<double>() : weights;
}

}  // namespace shortlist::ort_op
