// Sixteen threads call one engine of the C ABI while its bundle is swapped: every answer is one
// version's as a whole. Made for ThreadSanitizer (preset native-tsan), with sessions of one thread:
// it does not see how ONNX Runtime's own workers, which are not built for it, hand work over.
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
  Requests(std::size_t n, std::int64_t first_id) : ids_(3 * n) {
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      ids_[i] = first_id + 7 * static_cast<std::int64_t>((i * i + i / 3) % 40);
    }
    column_.name = "history";
    column_.numbers = ids_.data();
    column_.width = 3;
    requests_.struct_size = sizeof requests_;
    requests_.n_requests = n;
    requests_.top_n = kTopN;
    requests_.columns = &column_;
    requests_.n_columns = 1;
  }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;
  const shortlist_requests* get() const { return &requests_; }

 private:
  std::vector<std::int64_t> ids_;
  shortlist_column column_{};
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

}  // namespace

int main(int n_arguments, char** arguments) {
  if (n_arguments != 6) return 2;
  const char* const bundles[2] = {arguments[2], arguments[3]};
  const int n_swaps = std::atoi(arguments[4]);
  const std::size_t n_threads = std::strtoul(arguments[5], nullptr, 10);
  stress(arguments[1], bundles, n_threads, 2, n_swaps);
  stress(arguments[1], bundles, n_threads, 150, n_swaps);  // batches the operator shares out
  if (n_errors > 0) std::fprintf(stderr, "%d answers of no version\n", n_errors.load());
  if (n_errors == 0) std::puts("every answer is one version's");
  return n_errors == 0 ? 0 : 1;
}
