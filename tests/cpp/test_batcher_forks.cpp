// Micro-batching in a process that is forked while calls are inside: the child has no other thread.
#include <sys/wait.h>
#include <unistd.h>

#include "gated_batcher.hpp"

using namespace shortlist::engine;

namespace {

void a_forked_child_does_not_wait_for_its_parents_calls() {
  Gated gated;
  const Caller first(1);
  std::deque<Caller> others;
  others.emplace_back(2);
  auto calls = gated.hold(first, others);
  const pid_t child = ::fork();
  if (child == 0) {
    const BatchCounts counts = gated.batcher.counts();
    gated.batcher.drain();
    std::_Exit(counts.n_inside == 0 && counts.n_requests == 0 ? 0 : 1);
  }
  int status = 1;
  wait_until([&] { return ::waitpid(child, &status, WNOHANG) == child; });
  expect(status == 0, "a forked child begins with nobody inside");
  gated.open();
  for (auto& call : calls) call.get();
  expect(first.is_answered() && others[0].is_answered(), "its parent's calls go on");
}

void a_forked_child_answers() {
  std::atomic<bool> may_end{false};
  const pid_t parent = ::getpid();
  const Batcher batcher({8, kSecond}, 1, [&](const Requests& requests) {
    if (::getpid() == parent) wait_until([&] { return may_end.load(); });
    answer_all(requests);
  });
  const Caller first(1), second(2);
  auto one = std::async(std::launch::async, [&] { batcher.answer(first.request); });
  wait_until([&] { return batcher.counts().n_batches == 1; });
  auto other = std::async(std::launch::async, [&] { batcher.answer(second.request); });
  wait_until([&] { return batcher.counts().n_inside == 2; });
  const pid_t child = ::fork();
  if (child == 0) {
    const Caller own(7);
    batcher.answer(own.request);
    batcher.drain();
    std::_Exit(own.is_answered() && batcher.counts().n_requests == 1 ? 0 : 1);
  }
  int status = 1;
  wait_until([&] { return ::waitpid(child, &status, WNOHANG) == child; });
  expect(status == 0, "a forked child answers while its parent's calls hang");
  may_end = true;
  one.get();
  other.get();
}

}  // namespace

int main() {
  a_forked_child_does_not_wait_for_its_parents_calls();
  a_forked_child_answers();
  if (n_errors == 0) std::puts("forked children begin anew");
  return n_errors == 0 ? 0 : 1;
}
