#include "top_n_kernel.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "top_n_filter.hpp"

namespace shortlist::ort_op {
namespace {

// Queries that one task searches: large enough that they share their pass over the items.
constexpr std::size_t kQueriesPerTask = 64;
// Places of an answer that may be empty by far: beyond this, a mistake would fill the memory.
constexpr std::size_t kMaxEmptyPlaces = std::size_t{1} << 24;

const char* name_of(Metric metric) {
  return metric == Metric::cosine ? "cosine" : metric == Metric::dot ? "dot" : "euclidean";
}

// Refuses an index of another metric than the graph was made for.
IndexView checked_index(const OrtApi& api, const OrtKernelInfo* info, const IndexView& index) {
  const std::string metric = text_attribute(api, info, "metric");
  if (metric.empty() || metric == name_of(index.metric())) return index;
  throw_bad_input("index", std::string("the metric ") + name_of(index.metric()),
                  metric + ", which the graph was made for; export the bundle again");
}

IndexView open_index(const OrtApi& api, const OrtKernelInfo* info) {
  const OrtValue* value = nullptr;
  int is_constant = 0;
  check(api.KernelInfoGetConstantInput_tensor(info, TopNKernel::kIndex, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    throw_bad_input("index", "no constant",
                    "an initializer: the bytes of an index file, as external data of the graph");
  }
  const Tensor bytes = read_tensor(api, value);
  return Index::borrow("ai.shortlist.TopN: index", bytes.data, bytes.size).view();
}

// What ONNX Runtime's threads need to search their share of the queries.
struct Shares {
  const IndexView& index;
  const MatrixView& queries;
  std::size_t top_n;
  const TopNFilter& filter;
  const SearchOutput& output;
  std::mutex mutex;
  std::exception_ptr error;

  void run(std::size_t task) {
    const std::size_t first = task * kQueriesPerTask;
    const MatrixView part = {queries.row(first), std::min(kQueriesPerTask, queries.n_rows - first),
                             queries.dim};
    const std::size_t place = first * top_n;
    const SearchOutput out = {output.scores + place, output.rows + place, output.counts + first};
    try {
      index.search(part, top_n, filter.from(first), 1, out);
    } catch (const std::invalid_argument& bad) {  // it counts rows from its own first query
      const std::string from = first == 0 ? "" : "; rows count from " + std::to_string(first);
      keep(std::make_exception_ptr(std::invalid_argument(bad.what() + from)));
    } catch (...) {
      keep(std::current_exception());
    }
  }

  void keep(std::exception_ptr found) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!error) error = std::move(found);
  }
};

}  // namespace

void throw_bad_input(const std::string& argument, const std::string& got,
                     const std::string& expected) {
  throw std::invalid_argument("ai.shortlist.TopN: " + argument + ": got " + got + ", expected " +
                              expected);
}

TopNKernel::TopNKernel(const OrtApi& api, const OrtKernelInfo* info)
    : TopNKernel(api, info, open_index(api, info)) {}

TopNKernel::TopNKernel(const OrtApi& api, const OrtKernelInfo* info, const IndexView& index)
    : api_(api), index_(checked_index(api, info, index)) {}

OrtStatus* TopNKernel::run(OrtKernelContext* context) const noexcept {
  return guarded(api_, [&] { compute(context); });
}

void TopNKernel::compute(OrtKernelContext* context) const {
  Tensor tensor;
  read_input(api_, context, kQueries, &tensor);
  if (tensor.shape.size() != 2 || tensor.shape[1] != static_cast<std::int64_t>(index_.dim())) {
    throw_bad_input("queries", "shape " + to_text(tensor.shape),
                    "(n, " + std::to_string(index_.dim()) + ")");
  }
  const std::size_t n_queries = static_cast<std::size_t>(tensor.shape[0]);
  const MatrixView queries = {tensor.as<float>(), n_queries, index_.dim()};
  const std::size_t top_n = read_top_n(context, n_queries);
  const TopNFilter filter(api_, context, n_queries, index_.n_rows());

  const std::vector<std::int64_t> shape = {tensor.shape[0], static_cast<std::int64_t>(top_n)};
  SearchOutput output;
  output.rows = static_cast<std::int64_t*>(make_output(api_, context, kRows, shape));
  output.scores = static_cast<float*>(make_output(api_, context, kScores, shape));
  output.counts = static_cast<std::int64_t*>(make_output(api_, context, kCounts, {shape[0]}));
  auto* codes = static_cast<std::int64_t*>(make_output(api_, context, kCodes, shape));
  if (n_queries > 0) search(context, queries, top_n, filter, output);
  if (codes == nullptr) return;
  if (output.rows == nullptr) throw_bad_input("codes", "it without rows", "both outputs");
  const std::int64_t* const rows = output.rows;
  std::transform(rows, rows + n_queries * top_n, codes, [](std::int64_t row) { return row + 1; });
}

std::size_t TopNKernel::read_top_n(const OrtKernelContext* context, std::size_t n_queries) const {
  Tensor tensor;
  read_input(api_, context, kTopN, &tensor);
  if (tensor.size != 1) throw_bad_input("top_n", "shape " + to_text(tensor.shape), "one number");
  const std::int64_t top_n = *tensor.as<std::int64_t>();
  if (top_n < 1) throw_bad_input("top_n", std::to_string(top_n), "at least 1");
  const std::size_t n_places = static_cast<std::size_t>(top_n);
  const std::size_t n_rows = std::max<std::size_t>(1, index_.n_rows());
  if (n_places > n_rows && n_places > kMaxEmptyPlaces / std::max<std::size_t>(1, n_queries)) {
    throw_bad_input("top_n",
                    std::to_string(top_n) + " for " + std::to_string(n_queries) + " queries",
                    "at most " + std::to_string(n_rows) + ", the rows of the index");
  }
  return n_places;
}

void TopNKernel::search(OrtKernelContext* context, const MatrixView& queries, std::size_t top_n,
                        const TopNFilter& filter, const SearchOutput& output) const {
  std::vector<std::int64_t> rows, counts;  // outputs that nobody wants
  std::vector<float> scores;
  SearchOutput all = output;
  if (all.rows == nullptr) {
    rows.resize(queries.n_rows * top_n);
    all.rows = rows.data();
  }
  if (all.scores == nullptr) {
    scores.resize(queries.n_rows * top_n);
    all.scores = scores.data();
  }
  if (all.counts == nullptr) {
    counts.resize(queries.n_rows);
    all.counts = counts.data();
  }
  Shares shares{index_, queries, top_n, filter, all, {}, {}};
  const std::size_t n_tasks = (queries.n_rows + kQueriesPerTask - 1) / kQueriesPerTask;
  if (n_tasks == 1) {
    shares.run(0);
  } else {
    const auto run = [](void* data, std::size_t task) { static_cast<Shares*>(data)->run(task); };
    check(api_.KernelContext_ParallelFor(context, run, n_tasks, 0, &shares));
  }
  if (shares.error) std::rethrow_exception(shares.error);
  fall_back(context, queries.n_rows, top_n, filter, all);
}

void TopNKernel::fall_back(OrtKernelContext* context, std::size_t n_queries, std::size_t top_n,
                           const TopNFilter& filter, const SearchOutput& output) const {
  Tensor rows, scores, use;
  if (!read_input(api_, context, kUseFallback, &use)) return;
  read_input(api_, context, kFallbackRows, &rows);
  read_input(api_, context, kFallbackScores, &scores);
  if (use.size != n_queries || rows.data == nullptr || scores.size != rows.size) {
    throw_bad_input(
        "use_fallback", "shape " + to_text(use.shape),
        "(" + std::to_string(n_queries) + ",), with fallback_rows and fallback_scores of one size");
  }
  for (std::size_t query = 0; query < n_queries; ++query) {
    if (!use.as<bool>()[query]) continue;
    const AllowedRows allowed(filter.from(0), query, index_.n_rows());
    std::size_t n_found = 0;
    for (std::size_t i = 0; i < rows.size && n_found < top_n; ++i) {
      const std::int64_t row = rows.as<std::int64_t>()[i];
      if (!allowed.contains(row)) continue;
      output.rows[query * top_n + n_found] = row;
      output.scores[query * top_n + n_found++] = scores.as<float>()[i];
    }
    output.counts[query] = static_cast<std::int64_t>(n_found);
    for (std::size_t place = query * top_n + n_found; place < (query + 1) * top_n; ++place) {
      output.rows[place] = -1;
      output.scores[place] = -std::numeric_limits<float>::infinity();
    }
  }
}

}  // namespace shortlist::ort_op
