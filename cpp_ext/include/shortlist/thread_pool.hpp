// The threads that searches share. One pool per process; workers start on first use and sleep
// between calls (no spinning).
#pragma once

#include <cstddef>
#include <functional>

namespace shortlist {

// Threads a search may use, its caller included. Defaults to the CPUs this process may run on.
std::size_t num_threads();
// Changes it for the whole process; 0 = back to the default. Safe while searches run.
void set_num_threads(std::size_t n_threads);

// Runs task(0) .. task(n_tasks - 1), the caller's thread included, and returns when all are done.
// The first exception is rethrown on the caller. May be called from many threads at once.
void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task);

}  // namespace shortlist
