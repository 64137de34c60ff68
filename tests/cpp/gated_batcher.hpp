// A batcher whose runs end only when they may, for tests of what happens meanwhile.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine/batcher.hpp"

namespace shortlist::engine {

using Clock = std::chrono::steady_clock;
using Sizes = std::vector<std::size_t>;
using Requests = std::vector<const SingleRequest*>;

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kBad = 121;  // a user row that no run can answer
inline std::atomic<int> n_errors{0};

inline void expect(bool is_true, const std::string& promise) {
  if (is_true) return;
  ++n_errors;
  std::fprintf(stderr, "broken: %s\n", promise.c_str());
}

template <class Condition>
void wait_until(const Condition& condition) {
  const auto stop = Clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (Clock::now() > stop) {
      std::fprintf(stderr, "broken: it hangs\n");
      std::_Exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A request whose answer says who asked, and how much it wanted.
struct Caller {
  explicit Caller(std::int64_t user = 0, std::size_t top_n = 3, int stages = 2) {
    call.n_requests = 1;
    call.top_n = top_n;
    call.stages = stages;
    request = {&call, nullptr, nullptr, user, &view};
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;
  bool is_answered() const {
    return answer == request.user_row * 1000 + static_cast<std::int64_t>(call.top_n);
  }

  Call call;
  std::int64_t answer = -1;
  AnswerView view{nullptr, &answer, nullptr, nullptr, nullptr};
  SingleRequest request;
};

inline void answer_all(const Requests& requests) {
  for (const SingleRequest* one : requests) {
    if (one->user_row == kBad) throw std::runtime_error("cannot do 121");
  }
  for (const SingleRequest* one : requests) {
    *one->answer->rows = one->user_row * 1000 + static_cast<std::int64_t>(one->call->top_n);
  }
}

// A batcher whose runs end only when they may, and how many requests each had.
class Gated {
 public:
  explicit Gated(std::size_t n_at_once = 1, std::int64_t max_wait_us = kSecond)
      : batcher({8, max_wait_us}, n_at_once, [this](const Requests& requests) {
          {
            std::unique_lock<std::mutex> lock(mutex_);
            sizes_.push_back(requests.size());
            changed_.notify_all();
            changed_.wait(lock, [this] { return is_open_; });
          }
          answer_all(requests);
        }) {}

  void open(bool is_open = true) {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_open_ = is_open;
    changed_.notify_all();
  }
  Sizes sizes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    Sizes sorted = sizes_;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }
  std::future<void> call(const Caller& caller) {
    return std::async(std::launch::async, [this, &caller] { batcher.answer(caller.request); });
  }
  // A call that holds the one run there may be, and others that wait for it.
  std::vector<std::future<void>> hold(const Caller& first, const std::deque<Caller>& others) {
    std::vector<std::future<void>> calls;
    calls.push_back(call(first));
    wait_until([this] { return sizes().size() == 1; });
    for (const Caller& caller : others) calls.push_back(call(caller));
    wait_until([&] { return batcher.counts().n_inside == others.size() + 1; });
    return calls;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_ = false;
  Sizes sizes_;

 public:
  Batcher batcher;
};

}  // namespace shortlist::engine
