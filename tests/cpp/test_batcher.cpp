// Micro-batching: who shares a run with whom, when it starts, whose an error is.
#include "gated_batcher.hpp"

using namespace shortlist::engine;

namespace {

void calls_that_wait_share_one_run() {
  Gated gated;
  const Caller first(1);
  std::deque<Caller> others;
  for (std::int64_t user = 2; user < 9; ++user) others.emplace_back(user);
  auto calls = gated.hold(first, others);
  const auto start = Clock::now();
  gated.open();
  for (auto& call : calls) call.get();
  expect(seconds_since(start) < 0.9, "what waits begins when a running batch ends");
  expect(gated.sizes() == Sizes{1, 7}, "calls that wait share one run");
  expect(first.is_answered(), "the first is answered");
  for (const Caller& caller : others) expect(caller.is_answered(), "each gets its own answer");
  const BatchCounts counts = gated.batcher.counts();
  expect(counts.n_requests == 8 && counts.n_batches == 2 && counts.n_inside == 0, "counts");
}

void a_full_batch_does_not_wait_and_a_lone_call_neither() {
  Gated gated;
  gated.open();
  const Caller alone(1);
  const auto start = Clock::now();
  gated.batcher.answer(alone.request);
  expect(seconds_since(start) < 0.9, "a lone call does not wait");
  gated.open(false);
  const Caller first(2);
  std::deque<Caller> others;
  for (std::int64_t user = 3; user < 11; ++user) others.emplace_back(user);
  std::vector<std::future<void>> calls;
  calls.push_back(gated.call(first));
  wait_until([&] { return gated.sizes().size() == 2; });
  const auto full = Clock::now();
  for (const Caller& caller : others) calls.push_back(gated.call(caller));
  wait_until([&] { return gated.sizes().size() == 3; });  // the eighth has started them
  expect(seconds_since(full) < 0.9, "a full batch does not wait");
  gated.open();
  for (auto& call : calls) call.get();
  expect(gated.sizes() == Sizes{1, 1, 8}, "it has all eight");
}

void what_waits_too_long_runs_beside_the_others() {
  Gated gated(1, 1);
  const Caller first(1), second(2);
  auto one = gated.call(first);
  wait_until([&] { return gated.sizes().size() == 1; });
  auto other = gated.call(second);
  wait_until([&] { return gated.sizes().size() == 2; });
  gated.open();
  one.get();
  other.get();
  expect(gated.sizes() == Sizes{1, 1}, "what waits too long runs beside the others");
}

void as_many_run_at_once_as_there_are_cores() {
  Gated gated(2);
  std::deque<Caller> callers;
  for (std::int64_t user = 0; user < 5; ++user) callers.emplace_back(user);
  std::vector<std::future<void>> calls;
  for (std::size_t i = 0; i < 2; ++i) {
    calls.push_back(gated.call(callers[i]));
    wait_until([&] { return gated.sizes().size() == i + 1; });
  }
  for (std::size_t i = 2; i < 5; ++i) calls.push_back(gated.call(callers[i]));
  wait_until([&] { return gated.batcher.counts().n_inside == 5; });
  expect(gated.sizes() == Sizes{1, 1}, "two run, others wait");
  gated.open();
  for (auto& call : calls) call.get();
  expect(gated.sizes() == Sizes{1, 1, 3}, "and share the next run");
}

void calls_that_want_something_else_do_not_share() {
  Gated gated;
  const Caller first(0);
  std::deque<Caller> others;
  others.emplace_back(1, 3);
  others.emplace_back(2, 4);
  others.emplace_back(3, 4);
  others[2].call.exclude_seen = false;
  others.emplace_back(4, 4, 1);
  others.emplace_back(5, 4);
  others[4].call.exclude_seen = false;
  others.emplace_back(6, 4);
  const char newer = 0;
  others[5].request.catalogue = reinterpret_cast<const Catalogue*>(&newer);
  auto calls = gated.hold(first, others);
  gated.open();
  for (auto& call : calls) call.get();
  expect(gated.sizes() == Sizes{1, 1, 1, 1, 1, 2}, "calls that want something else do not share");
  for (const Caller& caller : others) expect(caller.is_answered(), "each gets what it wants");
}

void an_error_in_a_shared_run_reaches_only_the_call_at_fault() {
  Gated gated;
  const Caller first(0);
  std::deque<Caller> others;
  for (const std::int64_t user : {100L, 121L, 107L}) others.emplace_back(user);
  auto calls = gated.hold(first, others);
  gated.open();
  std::string error;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    try {
      calls[i].get();
      expect(i != 2, "the call at fault throws");
    } catch (const std::runtime_error& found) {
      expect(i == 2, "no other throws");
      error = found.what();
    }
  }
  expect(error == "cannot do 121", "its own error");
  expect(others[0].is_answered() && others[2].is_answered(), "the others are answered");
  expect(gated.batcher.counts().n_inside == 0, "and all have left");
  const Caller next(5);
  gated.batcher.answer(next.request);
  expect(next.is_answered(), "and the next is answered");
}

void draining_waits_for_calls_under_way() {
  Gated gated;
  const Caller first(1);
  std::deque<Caller> others;
  others.emplace_back(2);
  auto calls = gated.hold(first, others);
  auto drained = std::async(std::launch::async, [&] { gated.batcher.drain(); });
  expect(drained.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout,
         "draining waits");
  gated.open();
  drained.get();
  for (auto& call : calls) call.get();
  expect(first.is_answered() && others[0].is_answered(), "for all that are inside");
}

// Many threads, some at fault, for a while: nobody hangs, everyone gets its own.
void many_threads_get_their_own_answers() {
  for (const std::size_t n_at_once : {1U, 2U}) {
    const Batcher batcher({4, 100}, n_at_once, answer_all);
    std::vector<std::thread> threads;
    for (std::int64_t t = 0; t < 16; ++t) {
      threads.emplace_back([&batcher, t] {
        for (std::int64_t i = 0; i < 300; ++i) {
          const std::int64_t user = i % 10 == 3 ? kBad : t * 1000 + i + 200;
          const Caller caller(user, 1 + static_cast<std::size_t>(i % 2));
          try {
            batcher.answer(caller.request);
            expect(user != kBad && caller.is_answered(), "each thread gets its own answer");
          } catch (const std::runtime_error&) {
            expect(user == kBad, "each thread gets its own error");
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const BatchCounts counts = batcher.counts();
    expect(counts.n_requests == 16 * 300 && counts.n_batches <= counts.n_requests,
           "all are counted");
  }
}

}  // namespace

int main() {
  calls_that_wait_share_one_run();
  a_full_batch_does_not_wait_and_a_lone_call_neither();
  what_waits_too_long_runs_beside_the_others();
  as_many_run_at_once_as_there_are_cores();
  calls_that_want_something_else_do_not_share();
  an_error_in_a_shared_run_reaches_only_the_call_at_fault();
  draining_waits_for_calls_under_way();
  many_threads_get_their_own_answers();
  if (n_errors == 0) std::puts("batches keep their promises");
  return n_errors == 0 ? 0 : 1;
}
