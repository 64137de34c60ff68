// What a forked child finds: locks that are free, and changes that are whole.
#include "src/system/forks.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "shortlist/index.hpp"
#include "shortlist/search_output.hpp"

using namespace shortlist;

namespace {

int n_errors = 0;

void expect(bool is_kept, const std::string& promise) {
  if (is_kept) return;
  ++n_errors;
  std::printf("broken: %s\n", promise.c_str());
}

void nap(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// Whether a child does the work within ten seconds.
bool in_child(const std::function<bool()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(10);
    ::_exit(work() ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void a_lock_is_free_in_a_child() {
  ForkMutex mutex;
  std::atomic<bool> is_held{false}, is_over{false};
  std::thread owner([&] {
    const auto lock = mutex.lock();
    is_held = true;
    while (!is_over) nap(1);
  });
  while (!is_held) nap(1);
  expect(in_child([&] { return mutex.lock().owns_lock(); }), "a lock of a thread that is no more");
  expect(in_child([&] {
           {
             const auto lock = mutex.lock();
           }
           return in_child([&] { return mutex.lock().owns_lock(); });
         }),
         "a child of a child");
  is_over = true;
  owner.join();
  expect(mutex.lock().owns_lock(), "the parent's lock");
}

void a_fork_waits_for_a_change() {
  std::atomic<int> value{0};
  std::atomic<bool> has_begun{false};
  std::thread writer([&] {
    const Uncut uncut;
    const Uncut nested;
    value = 1;
    has_begun = true;
    nap(100);
    value = 2;
  });
  while (!has_begun) nap(1);
  expect(in_child([&] { return value == 2; }), "a fork waits for a change to be whole");
  writer.join();
  const Uncut uncut;
  const auto start = std::chrono::steady_clock::now();
  expect(in_child([] {
           const Uncut again;
           return true;
         }),
         "a fork of the very thread that changes");
  expect(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(900),
         "which does not wait for itself");
}

void a_fork_does_not_wait_for_ever() {
  std::atomic<bool> has_begun{false}, is_over{false};
  std::thread endless([&] {
    const Uncut uncut;
    has_begun = true;
    while (!is_over) nap(1);
  });
  while (!has_begun) nap(1);
  expect(in_child([] {
           const Uncut uncut;
           return true;
         }),
         "a child after a change that does not end");
  is_over = true;
  endless.join();
}

void an_index_goes_on_in_children() {
  constexpr std::size_t kItems = 2000, kDim = 8;
  std::vector<float> rows(kItems * kDim);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i * 7919 % 1009) - 500;
  IndexBuilder builder(kItems, kDim, Metric::dot);
  builder.add({rows.data(), kItems, kDim});
  Index index = builder.finish(ItemIds::row_numbers(kItems));
  std::atomic<bool> is_over{false};
  const auto upsert = [&](std::int64_t first) {  // known and new ones
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 0; i < 40; ++i) ids.push_back(first + i);
    index.upsert(ItemIds::from_int64(ids), {rows.data(), ids.size(), kDim});
  };
  std::vector<std::thread> writers;
  for (std::int64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      for (std::int64_t n = 0; !is_over; ++n) upsert(kItems - 20 + 50 * ((2 * n + t) % 100));
    });
  }
  int n_hung = 0;
  for (int i = 0; i < 100 && n_hung == 0; ++i) {
    n_hung += !in_child([&] {
      upsert(1'000'000);
      const IndexView view = index.view();
      float score = 0;
      std::int64_t row = 0, count = 0;
      view.search({rows.data(), 1, kDim}, 1, {}, 2, {&score, &row, &count});
      bool is_right = view.row_of(std::int64_t{1'000'039}) >= 0 && count == 1;
      for (std::size_t r = 0; r < view.n_rows(); ++r) {  // every row is that of its id
        is_right = is_right && (!view.is_known(r) ||
                                view.row_of(view.int64_at(r)) == static_cast<std::int64_t>(r));
      }
      return is_right;
    });
  }
  is_over = true;
  for (std::thread& writer : writers) writer.join();
  expect(n_hung == 0, "children of a process whose threads write to an index");
}

}  // namespace

int main() {
  a_lock_is_free_in_a_child();
  a_fork_waits_for_a_change();
  a_fork_does_not_wait_for_ever();
  an_index_goes_on_in_children();
  std::printf("forks: %d broken promises\n", n_errors);
  return n_errors == 0 ? 0 : 1;
}
