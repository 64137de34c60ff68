// Sixteen threads call one engine of the C ABI while its bundle is swapped, or its items change,
// with histories, stored users, filters and skips: every answer is one version's, with one state of
// its items, as a whole. Made for ThreadSanitizer (preset native-tsan), with sessions of one
// thread: it does not see how ONNX Runtime's own workers, which are not built for it, hand work
// over.
//   test_engine_threads LIBONNXRUNTIME BUNDLE OTHER N_SWAPS N_THREADS
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "shortlist/shortlist.h"

namespace {

constexpr std::size_t kCallers = 16, kTopN = 5;
std::atomic<int> n_errors{0};

void check(shortlist_status status, const shortlist_error& error) {
  if (status == SHORTLIST_OK) return;
  std::fprintf(stderr, "engine: %s\n", error.message);
  std::exit(1);
}

// Answers of one version to n requests, as bytes.
using Bytes = std::string;

Bytes bytes_of(const shortlist_answer& answer) {
  const std::size_t n = answer.n_requests * answer.top_n;
  Bytes bytes(reinterpret_cast<const char*>(answer.scores), n * sizeof(float));
  bytes.append(reinterpret_cast<const char*>(answer.rows), n * sizeof(std::int64_t));
  return bytes;
}

class Requests {
 public:
  // A third each has a history, a stored user, and both; none gets its own two excluded items.
  Requests(std::size_t n, std::int64_t first_id)
      : ids_(3 * n), users_(n), excluded_(2 * n), splits_(n + 1) {
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      ids_[i] = i / 3 % 3 == 1 ? kMissing : first_id + item(i * i + i / 3);
    }
    constexpr std::int64_t kUsers[4] = {5, 9, 12, 77};  // 77 is none of the bundle's
    for (std::size_t i = 0; i < n; ++i) {
      users_[i] = i % 3 == 0 ? kMissing : kUsers[i / 3 % 4];
      excluded_[2 * i] = first_id + item(i);
      excluded_[2 * i + 1] = first_id + item(3 * i + 1);
      splits_[i + 1] = static_cast<std::int64_t>(2 * i + 2);
    }
    columns_[0].name = "history";
    columns_[0].numbers = ids_.data();
    columns_[0].width = 3;
    columns_[1].name = "user_id";
    columns_[1].numbers = users_.data();
    exclude_.n = excluded_.size();
    exclude_.numbers = excluded_.data();
    filter_.struct_size = sizeof filter_;
    filter_.exclude = &exclude_;
    filter_.exclude_splits = splits_.data();
    requests_.struct_size = sizeof requests_;
    requests_.n_requests = n;
    requests_.top_n = kTopN;
    requests_.columns = columns_;
    requests_.n_columns = 2;
    requests_.filter = &filter_;
    requests_.skipped = &exclude_;
    requests_.skipped_splits = splits_.data();
  }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;
  const shortlist_requests* get() const { return &requests_; }

 private:
  static constexpr std::int64_t kMissing = INT64_MIN;
  static std::int64_t item(std::size_t i) { return 7 * static_cast<std::int64_t>(i % 40); }

  std::vector<std::int64_t> ids_, users_, excluded_, splits_;
  shortlist_column columns_[2] = {};
  shortlist_ids exclude_{};
  shortlist_filter filter_{};
  shortlist_requests requests_{};
};

// The answers of odd versions are those of the first bundle, of even ones those of the other.
class Expected {
 public:
  void add(std::uint64_t version, Bytes bytes) { by_parity_[version % 2] = std::move(bytes); }
  void compare(const shortlist_answer& answer) const {
    if (bytes_of(answer) != by_parity_.at(answer.version % 2)) ++n_errors;
  }

 private:
  std::map<std::uint64_t, Bytes> by_parity_;
};

shortlist_answer* recommend(const shortlist_engine* engine, const Requests& requests) {
  shortlist_error error;
  shortlist_answer* answer = nullptr;
  check(shortlist_engine_recommend(engine, requests.get(), &answer, &error), error);
  return answer;
}

void stress(const char* runtime, const char* const bundles[2], std::size_t n_threads,
            std::size_t n_requests, int n_swaps) {
  shortlist_error error;
  shortlist_engine_options options{};
  options.struct_size = sizeof options;
  options.onnxruntime = runtime;
  options.n_threads = n_threads;
  shortlist_engine* engine = nullptr;
  check(shortlist_engine_open(bundles[0], &options, &engine, &error), error);
  const Requests requests(n_requests, 100);
  Expected expected;
  for (int i = 1; i >= -1; --i) {  // the first bundle, the other, and the first again
    shortlist_answer* answer = recommend(engine, requests);
    expected.add(answer->version, bytes_of(*answer));
    shortlist_answer_free(answer);
    if (i >= 0) check(shortlist_engine_swap(engine, bundles[i], &error), error);
  }
  std::atomic<bool> is_over{false};
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      do {
        shortlist_answer* answer = recommend(engine, requests);
        expected.compare(*answer);
        shortlist_answer_free(answer);
      } while (!is_over);
    });
  }
  for (int i = 0; i < n_swaps; ++i) {
    check(shortlist_engine_swap(engine, bundles[(i + 1) % 2], &error), error);
    shortlist_engine_info info{};
    info.struct_size = sizeof info;
    check(shortlist_engine_report(engine, &info, &error), error);
  }
  is_over = true;
  for (std::thread& caller : callers) caller.join();
  shortlist_engine_close(engine);
}

// What callers may see while items come and go: ids and scores, as rows are numbered anew.
Bytes items_of(const shortlist_answer& answer) {
  const std::size_t n = answer.n_requests * answer.top_n;
  Bytes bytes(reinterpret_cast<const char*>(answer.scores), n * sizeof(float));
  bytes.append(reinterpret_cast<const char*>(answer.numbers), n * sizeof(std::int64_t));
  return bytes;
}

class NewItems {
 public:
  explicit NewItems(std::size_t dim) : vectors_(3 * dim) {
    for (std::size_t i = 0; i < vectors_.size(); ++i) {
      vectors_[i] = static_cast<float>(i % 5) - static_cast<float>(i % 3);
    }
    ids_.n = 3;
    ids_.numbers = numbers_;
  }
  void come(shortlist_engine* engine) const {
    shortlist_error error;
    check(shortlist_engine_upsert(engine, &ids_, nullptr, 0, vectors_.data(), &error), error);
  }
  void go(shortlist_engine* engine) const {
    shortlist_error error;
    check(shortlist_engine_remove(engine, &ids_, nullptr, &error), error);
  }

 private:
  const std::int64_t numbers_[3] = {900, 901, 902};
  shortlist_ids ids_{};
  std::vector<float> vectors_;
};

void look(const shortlist_engine* engine) {
  shortlist_error error;
  shortlist_view* view = nullptr;
  check(shortlist_engine_view(engine, &view, &error), error);
  shortlist_info info{};
  info.struct_size = sizeof info;
  check(shortlist_view_info(view, &info, &error), error);
  if (info.n_items != 40 && info.n_items != 43) ++n_errors;
  shortlist_view_free(view);
}

void stress_items(const char* runtime, const char* bundle, int n_changes) {
  shortlist_error error;
  shortlist_engine_options options{};
  options.struct_size = sizeof options;
  options.onnxruntime = runtime;
  options.n_threads = 1;
  shortlist_engine* engine = nullptr;
  check(shortlist_engine_open(bundle, &options, &engine, &error), error);
  shortlist_engine_info info{};
  info.struct_size = sizeof info;
  check(shortlist_engine_report(engine, &info, &error), error);
  const Requests requests(2, 100);
  const NewItems items(info.dim);
  const auto answer = [&] {
    shortlist_answer* found = recommend(engine, requests);
    const Bytes bytes = items_of(*found);
    shortlist_answer_free(found);
    return bytes;
  };
  const Bytes without = answer();
  items.come(engine);
  const Bytes with = answer();
  items.go(engine);
  if (with == without) ++n_errors;
  std::atomic<bool> is_over{false};
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      do {
        const Bytes bytes = answer();
        if (bytes != with && bytes != without) ++n_errors;
        look(engine);
      } while (!is_over);
    });
  }
  for (int i = 0; i < n_changes; ++i) {
    items.come(engine);
    items.go(engine);
  }
  is_over = true;
  for (std::thread& caller : callers) caller.join();
  shortlist_engine_close(engine);
}

}  // namespace

int main(int n_arguments, char** arguments) {
  if (n_arguments != 6) return 2;
  const char* const bundles[2] = {arguments[2], arguments[3]};
  const int n_swaps = std::atoi(arguments[4]);
  const std::size_t n_threads = std::strtoul(arguments[5], nullptr, 10);
  stress(arguments[1], bundles, n_threads, 2, n_swaps);
  stress(arguments[1], bundles, n_threads, 150, n_swaps);  // batches the operator shares out
  stress_items(arguments[1], bundles[0], 20 * n_swaps);
  if (n_errors > 0) std::fprintf(stderr, "%d answers of no version\n", n_errors.load());
  if (n_errors == 0) std::puts("every answer is one version's");
  return n_errors == 0 ? 0 : 1;
}
