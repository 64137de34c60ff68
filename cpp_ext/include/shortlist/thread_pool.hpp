// The threads that searches share: one pool a process, or the host's own through an Executor.
// Workers start on first use and sleep between calls (no spinning); a forked child starts its own.
#pragma once

#include <cstddef>
#include <functional>

namespace [[gnu::visibility("default")]] shortlist {

constexpr std::size_t kMaxThreads = 256;

// A host's own threads in place of the pool. C types only, so that a C ABI can pass it on.
struct Executor {
  void* context = nullptr;
  // Calls task(task_context, i) exactly once for every i < n_tasks, on any threads and in any
  // order, and returns when all those calls have. May itself be called from many threads at once.
  // The task throws nothing.
  void (*run)(void* context, std::size_t n_tasks, void (*task)(void* task_context, std::size_t i),
              void* task_context) = nullptr;
  // What num_threads() says meanwhile, 1 .. kMaxThreads.
  std::size_t n_threads = 1;
};

// Threads a search may use, its caller included. By default the CPUs that this process may use:
// affinity and cgroup quota count.
std::size_t num_threads();
// Changes it for the whole process; 0 = back to the default. Safe while searches run: those under
// way keep the threads they have. Throws std::invalid_argument above kMaxThreads.
void set_num_threads(std::size_t n_threads);
// From now on every parallel_for goes to this executor; one without `run` brings the pool back.
// Calls under way finish where they are, so the host keeps an executor usable until they have.
// Throws std::invalid_argument for a wrong n_threads.
void set_executor(const Executor& executor);

// Runs task(0) .. task(n_tasks - 1), the caller's thread included, and returns when all are done.
// The first exception is rethrown on the caller. May be called from many threads at once: workers
// only join in while no more than num_threads() threads work, callers included, and leave after
// their task when there are more. With an executor, throws std::runtime_error if tasks are missing
// when it returns.
void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task);

}  // namespace shortlist
