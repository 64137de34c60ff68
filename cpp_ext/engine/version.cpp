#include "version.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>

#include "shortlist/index.hpp"

namespace shortlist::engine {
namespace {

// Larger calls are cut, as Engine.recommend cuts them, and batches of long lists once more: memory
// does not grow with the number of requests, but for the answer.
constexpr std::size_t kMaxBatch = 1024;
constexpr const char* kIndex = "items.index";
constexpr const char* kUsers = "users.arrow";

IndexView load_index(const BundleFolder& bundle) {
  if (bundle.manifest.files.count(kIndex) == 0) {
    throw FileError(bundle.name + "/" + kIndex +
                    ": expected a file of the bundle, found no such entry in its manifest; export "
                    "the run again with this release");
  }
  check_index(bundle);
  const std::string path = bundle.file(kIndex), name = bundle.name + "/" + kIndex;
  try {
    return Index::load(path, true).view();
  } catch (const FileError& error) {  // it names the open folder by a number
    std::string message = error.what();
    const std::size_t at = message.find(path);
    if (at != std::string::npos) message.replace(at, path.size(), name);
    throw FileError(message);
  }
}

}  // namespace

// Requests first .. first + n of a call.
struct Version::Batch {
  const shortlist_requests& requests;
  const Filter& filter;
  const std::int64_t* user_rows;  // of all requests; null = no user is known
  std::size_t first, n;
};

Version::Version(const Runtime& runtime, const std::string& path, std::size_t n_threads,
                 bool check_hashes, std::uint64_t number)
    : bundle_(open_bundle(path, check_hashes)),
      number_(number),
      name_(bundle_.name + "/recommend.onnx"),
      index_(load_index(bundle_)) {
  if (bundle_.manifest.files.count("recommend.onnx") == 0) {
    throw FileError(name_ +
                    ": expected a file of the bundle, found no such entry in its manifest; export "
                    "the run again with this release");
  }
  try {
    open(runtime, n_threads);
  } catch (const FileError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw FileError(name_ + ": expected a graph ONNX Runtime can open, found " + error.what());
  }
  bundle_.folder = Descriptor();  // everything is read or mapped
}

void Version::open(const Runtime& runtime, std::size_t n_threads) {
  graph_ = std::make_unique<const Graph>(runtime, bundle_.file("recommend.onnx"), name_, index_,
                                         n_threads);
  if (graph_->has_texts() != (bundle_.manifest.item_id_dtype == "string")) {
    throw std::runtime_error("other inputs and outputs than those of docs/plugin.md");
  }
  if (bundle_.manifest.files.count(kUsers) == 0) return;
  users_ = std::make_unique<const StoredUsers>(bundle_.file(kUsers), bundle_.name + "/" + kUsers,
                                               bundle_.manifest, graph_->inputs());
}

void Version::recommend(const shortlist_requests& requests, const Filter& filter,
                        Answer* answer) const {
  const std::size_t n = requests.n_requests, n_places = n * requests.top_n;
  const std::vector<BoundColumn> bound =
      bind_columns(graph_->inputs(), requests.columns, requests.n_columns, n);
  const std::vector<std::int64_t> user_rows =
      find_users(users_.get(), bundle_.manifest.user_id_dtype == "string", requests.columns,
                 requests.n_columns, n);
  const bool is_filtered = filter.exclude.splits != nullptr || filter.allow.splits != nullptr ||
                           filter.allow_rows != nullptr || filter.allow_mask != nullptr;
  if ((is_filtered || !user_rows.empty()) && !graph_->has_filters()) {
    throw std::invalid_argument(
        std::string(is_filtered ? "filter" : "columns: user_id") + ": got one for " + bundle_.name +
        ", whose recommend.onnx is of an older release and takes no filters; "
        "expected a bundle that was exported with this release");
  }
  answer->own_scores.resize(n_places);
  answer->own_rows.resize(n_places);
  answer->own_counts.resize(n);
  answer->own_sources.resize(n);
  if (has_texts()) {
    answer->own_texts.resize(n_places);
  } else {
    answer->own_numbers.resize(n_places);
  }
  for (std::size_t first = 0; first < n;) {
    const std::size_t n_now = batch_size(bound, first, std::min(kMaxBatch, n - first));
    const std::int64_t* rows = user_rows.empty() ? nullptr : user_rows.data();
    answer_batch(bound, {requests, filter, rows, first, n_now}, answer);
    first += n_now;
  }
  answer->n_requests = n;
  answer->top_n = requests.top_n;
  answer->version = number_;
  answer->scores = answer->own_scores.data();
  answer->rows = answer->own_rows.data();
  answer->numbers = has_texts() ? nullptr : answer->own_numbers.data();
  answer->texts = has_texts() ? answer->own_texts.data() : nullptr;
  answer->counts = answer->own_counts.data();
  answer->sources = answer->own_sources.data();
}

void Version::warm() const {
  shortlist_requests requests{};
  requests.n_requests = requests.top_n = 1;
  Answer answer{};
  recommend(requests, Filter{}, &answer);
}

void Version::answer_batch(const std::vector<BoundColumn>& bound, const Batch& batch,
                           Answer* answer) const {
  const std::int64_t* rows = batch.user_rows == nullptr ? nullptr : batch.user_rows + batch.first;
  if (rows == nullptr || std::all_of(rows, rows + batch.n, [](auto row) { return row < 0; })) {
    return run(bound, batch.first, batch, nullptr, answer);
  }
  const JoinedBatch joined(*users_, index_, bundle_.manifest.max_history, bound, rows, batch.first,
                           batch.n);
  run(joined.bound(), 0, batch, &joined, answer);
  for (std::size_t i = 0; i < batch.n; ++i) {
    std::int64_t& source = answer->own_sources[batch.first + i];
    if (source == SHORTLIST_HISTORY && joined.is_stored(i)) source = SHORTLIST_STORED_HISTORY;
  }
}

// Numbers of item lists, and where each request's begin. What users have seen follows the lists.
void Version::feed_lists(const char* name, const char* splits_name, const RaggedRows& rows,
                         const Batch& batch, const JoinedBatch* joined, Feeds* feeds) const {
  std::vector<std::int64_t> values, splits = {0};
  for (std::size_t i = 0; i < batch.n; ++i) {
    if (rows.splits != nullptr) {
      const std::int64_t* const ends = rows.splits + batch.first + i;
      values.insert(values.end(), rows.values + ends[0], rows.values + ends[1]);
    }
    if (joined != nullptr) {
      const auto begin = joined->seen().begin();
      values.insert(values.end(), begin + joined->seen_splits()[i],
                    begin + joined->seen_splits()[i + 1]);
    }
    splits.push_back(static_cast<std::int64_t>(values.size()));
  }
  const auto& kept = feeds->keep(std::move(values));
  feeds->add(name, graph_->over(kept.data(), kept.size(), 0, kNumber));
  const auto& ends = feeds->keep(std::move(splits));
  feeds->add(splits_name, graph_->over(ends.data(), ends.size(), 0, kNumber));
}

void Version::feed_filter(const Batch& batch, const JoinedBatch* joined, Feeds* feeds) const {
  const Filter& filter = batch.filter;
  const JoinedBatch* const seen = batch.requests.include_seen != 0 ? nullptr : joined;
  if (filter.exclude.splits != nullptr || seen != nullptr) {
    feed_lists("exclude", "exclude_splits", filter.exclude, batch, seen, feeds);
  }
  if (filter.allow.splits != nullptr) {
    feed_lists("allow", "allow_splits", filter.allow, batch, nullptr, feeds);
  } else if (filter.allow_rows != nullptr) {
    const std::size_t n = filter.n_allow_rows;
    const auto& splits = feeds->keep({0, static_cast<std::int64_t>(n)});
    feeds->add("allow", graph_->over(filter.allow_rows, n, 0, kNumber));
    feeds->add("allow_splits", graph_->over(splits.data(), splits.size(), 0, kNumber));
  } else if (filter.allow_mask != nullptr) {
    feeds->add("allow_mask", graph_->over(filter.allow_mask, index_.n_rows(), 0,
                                          ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8));
  }
}

void Version::run(const std::vector<BoundColumn>& bound, std::size_t first_column,
                  const Batch& batch, const JoinedBatch* joined, Answer* answer) const {
  const OrtApi& api = graph_->api();
  Feeds feeds;
  for (const BoundColumn& column : bound) {
    feeds.add(column.input->name.c_str(), make_input(api, bound, column, first_column, batch.n));
  }
  const auto top_n = static_cast<std::int64_t>(batch.requests.top_n);
  feeds.add("top_n", graph_->over(&top_n, 1, 0, kNumber));
  const bool exclude_seen = false;
  if (batch.requests.include_seen != 0) {
    feeds.add("exclude_seen",
              graph_->over(&exclude_seen, 1, 0, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL));
  }
  feed_filter(batch, joined, &feeds);
  std::vector<Handle<OrtValue>> outputs = make_outputs(batch, answer);
  graph_->run(feeds, &outputs);
  if (has_texts()) keep_texts(outputs.back().get(), batch.first * batch.requests.top_n, answer);
}

// In the order of kOutputs. ONNX Runtime writes right into the answer, but for texts, which it
// owns.
std::vector<Handle<OrtValue>> Version::make_outputs(const Batch& batch, Answer* answer) const {
  const std::size_t first = batch.first, n = batch.n, top_n = batch.requests.top_n;
  const std::size_t place = first * top_n;
  std::vector<Handle<OrtValue>> outputs;
  outputs.push_back(graph_->over(answer->own_scores.data() + place, n, top_n, kFloat));
  outputs.push_back(graph_->over(answer->own_rows.data() + place, n, top_n, kNumber));
  outputs.push_back(graph_->over(answer->own_counts.data() + first, n, 0, kNumber));
  outputs.push_back(graph_->over(answer->own_sources.data() + first, n, 0, kNumber));
  if (has_texts()) {
    outputs.emplace_back(nullptr, graph_->api().ReleaseValue);
  } else {
    outputs.push_back(graph_->over(answer->own_numbers.data() + place, n, top_n, kNumber));
  }
  return outputs;
}

void Version::keep_texts(const OrtValue* ids, std::size_t first, Answer* answer) const {
  const OrtApi& api = graph_->api();
  std::size_t n_bytes = 0;
  graph_->expect(api.GetStringTensorDataLength(ids, &n_bytes));
  OrtTensorTypeAndShapeInfo* info = nullptr;
  graph_->expect(api.GetTensorTypeAndShape(ids, &info));
  const Handle<OrtTensorTypeAndShapeInfo> owner(info, api.ReleaseTensorTypeAndShapeInfo);
  std::size_t n = 0;
  graph_->expect(api.GetTensorShapeElementCount(info, &n));
  if (n > answer->own_texts.size() - first) throw std::runtime_error(name_ + ": too many ids");
  std::string bytes(n_bytes, '\0');
  std::vector<std::size_t> offsets(n + 1, n_bytes);
  graph_->expect(api.GetStringTensorContent(ids, bytes.data(), n_bytes, offsets.data(), n));
  answer->own_bytes.push_back(std::move(bytes));
  for (std::size_t i = 0; i < n; ++i) {
    answer->own_texts[first + i] = {answer->own_bytes.back().data() + offsets[i],
                                    offsets[i + 1] - offsets[i]};
  }
}

}  // namespace shortlist::engine
