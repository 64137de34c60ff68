// The pool, the host's executor in its place, forks, and how many CPUs a process may use.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "shortlist/thread_pool.hpp"
#include "src/system/cpu_count.hpp"

using namespace shortlist;

namespace {

int n_errors = 0;

void expect(bool is_true, const std::string& promise) {
  if (is_true) return;
  ++n_errors;
  std::fprintf(stderr, "broken: %s\n", promise.c_str());
}

template <class Error, class Call>
bool throws(const std::string& text, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(error.what()).find(text) != std::string::npos;
  }
  return false;
}

void nap(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

void every_task_runs_once() {
  for (const std::size_t n_threads : {1U, 2U, 7U, 3U, 0U}) {
    set_num_threads(n_threads);
    expect(n_threads == 0 || num_threads() == n_threads, "num_threads() is what was set");
    for (const std::size_t n_tasks : {0U, 1U, 2U, 50U, 1000U}) {
      std::vector<std::atomic<int>> n_runs(n_tasks);
      parallel_for(n_tasks, [&](std::size_t i) { ++n_runs[i]; });
      bool is_once = true;
      for (const std::atomic<int>& n : n_runs) is_once = is_once && n == 1;
      expect(is_once, "every task runs once");
    }
  }
}

// The most tasks of one call that ran at once.
int most_at_once(std::size_t n_tasks) {
  std::atomic<int> n_now{0}, most{0};
  parallel_for(n_tasks, [&](std::size_t) {
    const int now = ++n_now;
    int seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    nap(2);
    --n_now;
  });
  return most;
}

// Tasks that workers started while n_callers threads were sure to be inside parallel_for: all had
// come (their task 10 was started) and none could leave (no last task was).
int n_helped(std::size_t n_callers, std::size_t n_tasks) {
  std::atomic<std::size_t> n_inside{0};
  std::atomic<bool> is_ending{false};
  std::atomic<int> n_by_workers{0};
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < n_callers; ++c) {
    callers.emplace_back([&] {
      const std::thread::id caller = std::this_thread::get_id();
      parallel_for(n_tasks, [&, caller](std::size_t i) {
        if (i == 10) ++n_inside;
        if (i == n_tasks - 1) is_ending = true;
        const bool is_worker = std::this_thread::get_id() != caller;
        if (is_worker && n_inside == n_callers && !is_ending) ++n_by_workers;
        nap(1);
      });
    });
  }
  for (std::thread& caller : callers) caller.join();
  return n_by_workers;
}

void callers_and_workers_share_the_threads() {
  set_num_threads(4);
  const int alone = most_at_once(200);
  expect(alone >= 2 && alone <= 4, "a caller gets helpers, at most three");
  // Each of the three workers may have looked just before the last caller came.
  expect(n_helped(8, 100) <= 3, "workers leave when callers use all threads");
  set_num_threads(1);
  expect(most_at_once(20) == 1, "a pool of one has no workers");
  set_num_threads(0);
}

void the_first_failure_reaches_the_caller() {
  set_num_threads(3);
  for (const std::size_t n_tasks : {1U, 40U}) {
    std::atomic<std::size_t> n_run{0};
    const auto fail = [&](std::size_t i) {
      ++n_run;
      if (i % 7 == 0) throw std::runtime_error("task failed");
    };
    expect(throws<std::runtime_error>("task failed", [&] { parallel_for(n_tasks, fail); }),
           "a failure reaches the caller");
    expect(n_run == n_tasks, "the other tasks still run");
  }
  set_num_threads(0);
}

void idle_workers_use_no_time() {
  set_num_threads(4);
  expect(most_at_once(100) > 1, "workers are there");
  const std::clock_t before = std::clock();
  nap(300);
  const double seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  expect(seconds < 0.15, "workers sleep between calls, used " + std::to_string(seconds) + " s");
  set_num_threads(0);
}

void a_forked_child_has_workers() {
  set_num_threads(3);
  expect(most_at_once(30) > 1, "the parent has workers");
  const pid_t child = ::fork();
  if (child == 0) {
    std::atomic<int> n_run{0};
    parallel_for(50, [&](std::size_t) { ++n_run, nap(1); });
    ::_exit(n_run == 50 && num_threads() == 3 && most_at_once(50) > 1 ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child has workers of its own");
  set_num_threads(0);
}

struct Host {
  std::atomic<int> n_calls{0};
  std::size_t n_left_out = 0, n_too_many = 0;
  bool is_double = false;
};

void run_on_two_threads(void* context, std::size_t n_tasks, void (*task)(void*, std::size_t),
                        void* task_context) {
  Host& owner = *static_cast<Host*>(context);
  ++owner.n_calls;
  n_tasks = n_tasks - owner.n_left_out + owner.n_too_many;
  if (owner.is_double) task(task_context, 3);
  std::thread odd([&] {
    for (std::size_t i = 1; i < n_tasks; i += 2) task(task_context, i);
  });
  for (std::size_t i = 0; i < n_tasks; i += 2) task(task_context, i);
  odd.join();
}

void a_host_brings_its_own_threads() {
  Host owner;
  set_executor({&owner, run_on_two_threads, 2});
  expect(num_threads() == 2, "num_threads() is the host's");
  std::vector<std::atomic<int>> n_runs(101);
  parallel_for(n_runs.size(), [&](std::size_t i) { ++n_runs[i]; });
  bool is_once = true;
  for (const std::atomic<int>& n : n_runs) is_once = is_once && n == 1;
  expect(is_once && owner.n_calls == 1, "the host runs every task once");
  expect(most_at_once(20) <= 2, "no worker of the pool runs beside the host's");
  const auto fail = [](std::size_t i) {
    if (i == 3) throw std::runtime_error("task failed");
  };
  expect(throws<std::runtime_error>("task failed", [&] { parallel_for(9, fail); }),
         "a failure passes the host by and reaches the caller");
  owner.n_left_out = 1;
  expect(throws<std::runtime_error>("executor: ran 8 of 9 tasks",
                                    [] { parallel_for(9, [](std::size_t) {}); }),
         "a host that leaves tasks out is found out");
  owner.n_left_out = 0;
  owner.n_too_many = 5;
  std::vector<std::atomic<int>> n_strange(9);
  expect(
      throws<std::runtime_error>("executor: ran 9 of 9 tasks, and some twice or beyond the last",
                                 [&] { parallel_for(9, [&](std::size_t i) { ++n_strange[i]; }); }),
      "a host that runs tasks beyond the last is found out, and they are not run");
  owner.n_too_many = 0;
  owner.is_double = true;
  expect(
      throws<std::runtime_error>("executor: ran 9 of 9 tasks, and some twice or beyond the last",
                                 [&] { parallel_for(9, [&](std::size_t i) { ++n_strange[i]; }); }),
      "a host that runs a task twice is found out");
  bool is_twice = true;
  for (const std::atomic<int>& n : n_strange) is_twice = is_twice && n == 2;
  expect(is_twice, "each task ran once in each of the two");
  set_executor({});
  const int n_before = owner.n_calls;
  parallel_for(9, [](std::size_t) {});
  expect(owner.n_calls == n_before, "without an executor the pool is back");
}

void wrong_numbers_are_refused() {
  const auto too_many = [] { set_num_threads(kMaxThreads + 1); };
  expect(throws<std::invalid_argument>("n_threads: got 257; expected 0 to 256", too_many),
         "too many threads are refused");
  const auto none = [] { set_executor({nullptr, run_on_two_threads, 0}); };
  expect(throws<std::invalid_argument>("n_threads: got 0; expected 1 to 256", none),
         "an executor without threads is refused");
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

void a_quota_is_found() {
  std::string name = (std::filesystem::temp_directory_path() / "shortlistXXXXXX").string();
  expect(::mkdtemp(name.data()) != nullptr, "a temporary folder");
  const std::filesystem::path root = name;
  const std::filesystem::path groups = root / "sys/fs/cgroup";
  expect(cgroup_cpus(name) == 0, "no cgroup file, no quota");
  write(root / "proc/self/cgroup", "0::/pod/box\n");
  expect(cgroup_cpus(name) == 0, "no quota file, no quota");
  write(groups / "pod/box/cpu.max", "max 100000\n");
  expect(cgroup_cpus(name) == 0, "max is no quota");
  write(groups / "pod/cpu.max", "250000 100000\n");
  expect(cgroup_cpus(name) == 3, "the group above counts, rounded up");
  write(groups / "pod/box/cpu.max", "50000 100000\n");
  expect(cgroup_cpus(name) == 1, "the least quota counts, and is at least 1");
  write(root / "proc/self/cgroup", "9:name=systemd:/\n4:cpu,cpuacct:/other/place\n0::/none\n");
  write(groups / "cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
  write(groups / "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  expect(cgroup_cpus(name) == 2, "version 1, path of the host: the mount's own quota counts");
  write(groups / "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  expect(cgroup_cpus(name) == 0, "-1 is no quota");
  write(root / "proc/self/cgroup", "nonsense\n:\n");
  expect(cgroup_cpus(name) == 0, "an odd file is no quota");
  std::filesystem::remove_all(root);
  expect(usable_cpus() >= 1, "at least one CPU");
}

}  // namespace

int main() {
  every_task_runs_once();
  callers_and_workers_share_the_threads();
  the_first_failure_reaches_the_caller();
  idle_workers_use_no_time();
  a_forked_child_has_workers();
  a_host_brings_its_own_threads();
  wrong_numbers_are_refused();
  a_quota_is_found();
  std::printf("threads: %d broken promises\n", n_errors);
  return n_errors == 0 ? 0 : 1;
}
