// Sixteen threads ask one bundle for one request each, which share runs, are filled up to fixed
// sizes, and are answered by the index or the portable graph, while its items change: every answer
// is that of the request alone. Made for ThreadSanitizer, as test_engine_threads.cpp.
//   test_shared_runs LIBONNXRUNTIME BUNDLE N_ROUNDS
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "engine/loaded_bundle.hpp"

using namespace shortlist::engine;
using shortlist::ItemIds;

namespace {

constexpr std::size_t kCallers = 16, kTopN = 5, kRequests = 24;
constexpr std::int64_t kMissing = std::numeric_limits<std::int64_t>::min();
std::atomic<int> n_errors{0};

struct Answer {
  float scores[kTopN];
  std::int64_t rows[kTopN], count = 0, source = 0;
  std::int8_t stages = 0;
};

// Different histories of ids of tests/worlds.py, a third of them with a stored user.
class Request {
 public:
  explicit Request(std::size_t number) : user_(number % 3 == 0 ? 5 : kMissing) {
    for (std::size_t i = 0; i < number % 7; ++i) {
      history_.push_back(100 + 7 * static_cast<std::int64_t>((number * 5 + i * i) % 40));
    }
    splits_[1] = static_cast<std::int64_t>(history_.size());
    columns_[0].name = "history";
    columns_[0].numbers = history_.empty() ? nullptr : history_.data();
    columns_[0].splits = splits_;
    columns_[1].name = "user_id";
    columns_[1].numbers = &user_;
    skipped_ = {skipped_rows_, splits_of_skipped_};
    call_.n_requests = 1;
    call_.columns = columns_;
    call_.n_columns = 2;
    call_.top_n = kTopN;
    call_.exclude_seen = number % 5 != 0;
    if (number % 4 == 0) call_.skipped = skipped_;
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Answer ask(const LoadedBundle& bundle, const Catalogue& catalogue) const {
    Answer answer;
    bundle.recommend(call_, catalogue,
                     {answer.scores, answer.rows, &answer.count, &answer.source, &answer.stages});
    return answer;
  }

 private:
  std::vector<std::int64_t> history_;
  std::int64_t splits_[2] = {0, 0}, user_;
  std::int64_t skipped_rows_[2] = {3, 17}, splits_of_skipped_[2] = {0, 2};
  shortlist::RaggedRows skipped_;
  shortlist_column columns_[2] = {};
  Call call_;
};

bool is_same(const Answer& one, const Answer& other) {
  if (one.count != other.count || one.source != other.source || one.stages != other.stages) {
    return false;
  }
  for (std::size_t i = 0; i < kTopN; ++i) {
    if (one.rows[i] != other.rows[i]) return false;
    const float limit = 1e-4F * std::max(1.0F, std::abs(other.scores[i]));
    if (one.rows[i] >= 0 && std::abs(one.scores[i] - other.scores[i]) > limit) return false;
  }
  return true;
}

// Writes the same vector again, so that the items change and the answers do not.
void change_items(LoadedBundle& bundle) {
  const std::shared_ptr<Catalogue> now = bundle.catalogue();
  std::vector<float> vector(now->view().dim());
  now->view().copy_vector(7, vector.data());
  const ItemIds ids = ItemIds::from_int64({now->view().int64_at(7)});
  bundle.upsert(ids, {vector.data(), 1, vector.size()}, nullptr);
}

void stress(const Runtime& runtime, const char* path, const char* search, int n_rounds) {
  BundleSettings settings;
  settings.search = search;
  const LoadedBundle alone(runtime, open_bundle(path, true), {}, 1);
  settings.batching = {8, 300};
  settings.fixed_batches = FixedBatches({4, 8});
  LoadedBundle together(runtime, open_bundle(path, true), settings, 1);
  std::vector<Answer> expected;
  std::vector<std::unique_ptr<Request>> requests;
  for (std::size_t i = 0; i < kRequests; ++i) {
    requests.push_back(std::make_unique<Request>(i));
    expected.push_back(requests[i]->ask(alone, *alone.catalogue()));
  }
  std::vector<std::thread> callers;
  for (std::size_t t = 0; t < kCallers; ++t) {
    callers.emplace_back([&, t] {
      for (int round = 0; round < n_rounds; ++round) {
        const std::size_t i = (t + static_cast<std::size_t>(round)) % kRequests;
        const std::shared_ptr<Catalogue> catalogue = together.catalogue();
        if (!is_same(requests[i]->ask(together, *catalogue), expected[i])) ++n_errors;
      }
    });
  }
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    change_items(together);
    together.batcher()->counts();
  }
  for (std::thread& caller : callers) caller.join();
  together.drain();
  const BatchCounts counts = together.batcher()->counts();
  if (counts.n_requests != kCallers * static_cast<std::size_t>(n_rounds)) ++n_errors;
  std::printf("%s: %zu requests in %zu runs\n", search, static_cast<std::size_t>(counts.n_requests),
              static_cast<std::size_t>(counts.n_batches));
}

}  // namespace

int main(int n_arguments, char** arguments) {
  if (n_arguments != 4) return 2;
  const Runtime runtime = find_runtime(arguments[1]);
  for (const char* search : {"index", "graph", "measured"}) {
    stress(runtime, arguments[2], search, std::atoi(arguments[3]));
  }
  if (n_errors > 0) std::fprintf(stderr, "%d answers of no request\n", n_errors.load());
  if (n_errors == 0) std::puts("every answer is its request's");
  return n_errors == 0 ? 0 : 1;
}
