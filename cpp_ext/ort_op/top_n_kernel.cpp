#include "ort_op/top_n_kernel.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ort_op/push_down.hpp"
#include "ort_op/top_n_variety.hpp"
#include "shortlist/limits.hpp"
#include "src/search/selection.hpp"

namespace shortlist::ort_op {
namespace {

// Queries that one task searches: large enough that they share their pass over the items.
constexpr std::size_t kQueriesPerTask = 64;
// Popular items that are looked at first for each place that has to be filled under caps.
constexpr std::size_t kFallbackFactor = 4;

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
  const Filter& filter;
  const Variety& variety;
  const SearchOutput& output;
  std::mutex mutex;
  std::exception_ptr error;

  void run(std::size_t task) {
    const std::size_t first = task * kQueriesPerTask;
    const MatrixView part = {queries.row(first), std::min(kQueriesPerTask, queries.n_rows - first),
                             queries.dim};
    const std::size_t place = first * top_n;
    SearchOutput out = {output.scores + place, output.rows + place, output.counts + first};
    if (output.missing != nullptr) out.missing = output.missing + first * variety.n_quotas;
    try {
      index.search(part, top_n, filter_from(filter, first), variety_from(variety, first), 1, out);
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

template <class T>
T* grown(std::vector<T>& values, std::size_t size) {
  values.resize(size);
  return values.data();
}

// Places of a query from n_found on are missing.
void put_nothing(std::size_t query, std::size_t n_found, std::size_t top_n,
                 const SearchOutput& output) {
  output.counts[query] = static_cast<std::int64_t>(n_found);
  for (std::size_t place = query * top_n + n_found; place < (query + 1) * top_n; ++place) {
    output.rows[place] = -1;
    output.scores[place] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace

void throw_bad_input(const std::string& argument, const std::string& got,
                     const std::string& expected) {
  throw std::invalid_argument("ai.shortlist.TopN: " + argument + ": got " + got + ", expected " +
                              expected);
}

// What one run of the node works on.
struct TopNKernel::Run {
  OrtKernelContext* context;
  const SearchCall* call;  // null for a host's own session
  const IndexView& index;
  std::size_t n_queries = 0;  // of its inputs; those that are searched may be fewer
  std::size_t top_n = 0;
  Variety variety = {};
};

TopNKernel::TopNKernel(const OrtApi& api, const OrtKernelInfo* info)
    : api_(api), index_(checked_index(api, info, open_index(api, info))) {}

TopNKernel::TopNKernel(const OrtApi& api, const OrtKernelInfo* info, const IndexView& index)
    : api_(api), index_(checked_index(api, info, index)), takes_calls_(true) {}

OrtStatus* TopNKernel::run(OrtKernelContext* context) const noexcept {
  return guarded(api_, [&] { compute(context); });
}

void TopNKernel::compute(OrtKernelContext* context) const {
  const SearchCall* const call = takes_calls_ ? current_call() : nullptr;
  if (takes_calls_ && call == nullptr) {
    throw std::logic_error("ai.shortlist.TopN: a session of the engine ran outside of a call");
  }
  Run run{context, call, call == nullptr ? index_ : *call->index};
  Tensor tensor;
  read_input(api_, context, kQueries, &tensor);
  if (tensor.shape.size() != 2 || tensor.shape[1] != static_cast<std::int64_t>(index_.dim())) {
    throw_bad_input("queries", "shape " + to_text(tensor.shape),
                    "(n, " + std::to_string(index_.dim()) + ")");
  }
  const std::size_t n_queries = static_cast<std::size_t>(tensor.shape[0]);
  const std::size_t n_searched = call == nullptr ? n_queries : std::min(n_queries, call->n_queries);
  run.n_queries = n_queries;
  run.top_n = read_top_n(run);

  const std::vector<std::int64_t> shape = {tensor.shape[0], static_cast<std::int64_t>(run.top_n)};
  SearchOutput output;
  output.rows = static_cast<std::int64_t*>(make_output(api_, context, kRows, shape));
  output.scores = static_cast<float*>(make_output(api_, context, kScores, shape));
  output.counts = static_cast<std::int64_t*>(make_output(api_, context, kCounts, {shape[0]}));
  std::unique_ptr<const TopNVariety> variety;
  if (call != nullptr) {
    run.variety = call->variety;
    output.missing = call->missing;
  } else {
    variety = std::make_unique<const TopNVariety>(api_, context, n_queries, run.index.n_rows(),
                                                  run.top_n);
    run.variety = variety->variety();
    const auto n_quotas = static_cast<std::int64_t>(run.variety.n_quotas);
    output.missing =
        static_cast<std::int64_t*>(make_output(api_, context, kMissing, {shape[0], n_quotas}));
  }
  auto* codes = static_cast<std::int64_t*>(make_output(api_, context, kCodes, shape));
  const std::size_t n_places = n_queries * run.top_n;
  std::vector<std::int64_t> rows, counts;  // outputs that nobody wants
  std::vector<float> scores;
  if (output.rows == nullptr) output.rows = grown(rows, n_places);
  if (output.scores == nullptr) output.scores = grown(scores, n_places);
  if (output.counts == nullptr) output.counts = grown(counts, n_queries);
  if (n_searched > 0) answer(run, {tensor.as<float>(), n_searched, index_.dim()}, output);
  for (std::size_t q = n_searched; q < n_queries; ++q) put_nothing(q, 0, run.top_n, output);
  for (std::size_t i = 0; codes != nullptr && i < n_places; ++i) {
    const std::int64_t row = output.rows[i];
    codes[i] = row < 0 ? 0 : call == nullptr || call->codes == nullptr ? row + 1 : call->codes[row];
  }
}

void TopNKernel::answer(const Run& run, const MatrixView& queries,
                        const SearchOutput& output) const {
  const SearchCall* const call = run.call;
  if (call != nullptr && call->embeddings != nullptr) {
    std::copy_n(queries.data, queries.n_rows * queries.dim, call->embeddings);
    for (std::size_t q = 0; q < queries.n_rows; ++q) put_nothing(q, 0, run.top_n, output);
    return;
  }
  const TopNFilter filter(api_, run.context, run.n_queries, queries.n_rows, run.index.n_rows(),
                          call == nullptr ? nullptr : &call->filter);
  if (call != nullptr && call->skipped.splits != nullptr) {
    const std::vector<float> pushed = push_down(queries, call->skipped, run.index);
    search(run, {pushed.data(), queries.n_rows, queries.dim}, filter.filter(), output);
  } else {
    search(run, queries, filter.filter(), output);
  }
  fall_back(run, queries.n_rows, filter.filter(), output);
}

std::size_t TopNKernel::read_top_n(const Run& run) const {
  Tensor tensor;
  read_input(api_, run.context, kTopN, &tensor);
  if (tensor.size != 1) throw_bad_input("top_n", "shape " + to_text(tensor.shape), "one number");
  const std::int64_t top_n = *tensor.as<std::int64_t>();
  if (top_n < 1) throw_bad_input("top_n", std::to_string(top_n), "at least 1");
  const std::size_t n_places = static_cast<std::size_t>(top_n);
  const std::size_t n_rows = std::max<std::size_t>(1, run.index.n_rows());
  if (n_places > n_rows && n_places > kMaxEmptyPlaces / std::max<std::size_t>(1, run.n_queries)) {
    throw_bad_input("top_n",
                    std::to_string(top_n) + " for " + std::to_string(run.n_queries) + " queries",
                    "at most " + std::to_string(n_rows) + ", the rows of the index");
  }
  return n_places;
}

void TopNKernel::search(const Run& run, const MatrixView& queries, const Filter& filter,
                        const SearchOutput& output) const {
  Shares shares{run.index, queries, run.top_n, filter, run.variety, output, {}, {}};
  const std::size_t n_tasks = (queries.n_rows + kQueriesPerTask - 1) / kQueriesPerTask;
  if (n_tasks == 1) {
    shares.run(0);
  } else {
    const auto share = [](void* data, std::size_t task) { static_cast<Shares*>(data)->run(task); };
    check(api_.KernelContext_ParallelFor(run.context, share, n_tasks, 0, &shares));
  }
  if (shares.error) std::rethrow_exception(shares.error);
}

void TopNKernel::fall_back(const Run& run, std::size_t n_searched, const Filter& filter,
                           const SearchOutput& output) const {
  Tensor rows, scores, use;
  if (!read_input(api_, run.context, kUseFallback, &use)) return;
  read_input(api_, run.context, kFallbackRows, &rows);
  read_input(api_, run.context, kFallbackScores, &scores);
  if (use.size != run.n_queries || rows.data == nullptr || scores.size != rows.size) {
    throw_bad_input("use_fallback", "shape " + to_text(use.shape),
                    "(" + std::to_string(run.n_queries) +
                        ",), with fallback_rows and fallback_scores of one size");
  }
  const bool* const uses = use.as<bool>();
  if (std::none_of(uses, uses + n_searched, [](bool is_used) { return is_used; })) return;
  RankedRows popular = {rows.as<std::int64_t>(), scores.as<float>(), rows.size};
  if (run.call != nullptr && run.call->popular != nullptr) popular = run.call->popular->ranked();
  for (std::size_t query = 0; query < n_searched; ++query) {
    if (!uses[query]) continue;
    fall_back(run, query, AllowedRows(filter, query, run.index.n_rows()), popular, output);
  }
}

// Caps and quotas count as elsewhere; diversity does not, as numbers of events are no similarities.
void TopNKernel::fall_back(const Run& run, std::size_t query, const AllowedRows& allowed,
                           const RankedRows& popular, const SearchOutput& output) const {
  std::size_t n_found = 0;
  const auto put = [&](const Neighbor& item) {
    output.rows[query * run.top_n + n_found] = item.row;
    output.scores[query * run.top_n + n_found++] = item.score;
  };
  const auto best = [&](std::size_t n) {
    std::vector<Neighbor> list;
    for (std::size_t i = 0; i < popular.n && list.size() < n; ++i) {
      if (allowed.contains(popular.rows[i])) list.push_back({popular.scores[i], popular.rows[i]});
    }
    return list;
  };
  if (!run.variety.is_set()) {
    for (const Neighbor& item : best(run.top_n)) put(item);
  } else {
    Selection selection(run.variety, query, run.top_n);
    for (std::size_t n = kFallbackFactor * run.top_n; !selection.is_done(); n = popular.n + 1) {
      std::vector<Neighbor> list = best(n);
      const bool is_all = list.size() < n;
      selection.offer(std::move(list), is_all, run.top_n);
    }
    std::vector<Neighbor> picks = selection.picks();
    std::sort(picks.begin(), picks.end(), is_better);
    for (const Neighbor& item : picks) put(item);
    if (output.missing != nullptr) {
      selection.write_missing(output.missing + query * run.variety.n_quotas);
    }
  }
  put_nothing(query, n_found, run.top_n, output);
}

}  // namespace shortlist::ort_op
