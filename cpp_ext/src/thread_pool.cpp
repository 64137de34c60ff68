#include "shortlist/thread_pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace shortlist {
namespace {

struct Job {
  Job(std::size_t n, const std::function<void(std::size_t)>& f) : n_tasks(n), task(&f) {}

  const std::size_t n_tasks;
  const std::function<void(std::size_t)>* task;  // valid until n_done == n_tasks
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::condition_variable all_done;
  std::size_t n_done = 0;
  std::exception_ptr error;

  // Runs tasks until none is left to start.
  void work() {
    for (std::size_t i = next.fetch_add(1); i < n_tasks; i = next.fetch_add(1)) {
      std::exception_ptr failure;
      try {
        (*task)(i);
      } catch (...) {
        failure = std::current_exception();
      }
      const std::lock_guard<std::mutex> lock(mutex);
      if (failure && !error) error = failure;
      if (++n_done == n_tasks) all_done.notify_all();
    }
  }
};

std::size_t default_threads() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

class Pool {
 public:
  std::size_t size() const { return size_.load(); }

  void resize(std::size_t n_threads) {
    size_.store(n_threads == 0 ? default_threads() : n_threads);
    wake_.notify_all();  // surplus workers leave
  }

  void run(const std::shared_ptr<Job>& job) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(job);
      for (; n_workers_ + 1 < std::min(size(), job->n_tasks); ++n_workers_) {
        std::thread(&Pool::work, this).detach();
      }
    }
    if (job->n_tasks == 2) {
      wake_.notify_one();
    } else {
      wake_.notify_all();
    }
    job->work();
    forget(job);
    std::unique_lock<std::mutex> lock(job->mutex);
    job->all_done.wait(lock, [&job] { return job->n_done == job->n_tasks; });
  }

 private:
  void forget(const std::shared_ptr<Job>& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find(jobs_.begin(), jobs_.end(), job);
    if (found != jobs_.end()) jobs_.erase(found);
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !jobs_.empty() || n_workers_ >= size(); });
      if (n_workers_ >= size()) {
        --n_workers_;
        return;
      }
      const std::shared_ptr<Job> job = jobs_.front();
      lock.unlock();
      job->work();
      forget(job);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> jobs_;
  std::size_t n_workers_ = 0;
  std::atomic<std::size_t> size_{default_threads()};
};

// Never destroyed: workers may sleep in it until the process ends. After a fork the child has no
// workers, so it gets a new pool.
Pool* pool = nullptr;
std::once_flag pool_once;

Pool& the_pool() {
  std::call_once(pool_once, [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] {
      const std::size_t n_threads = pool->size();
      pool = new Pool;
      pool->resize(n_threads);
    });
  });
  return *pool;
}

}  // namespace

std::size_t num_threads() {
  return the_pool().size();
}

void set_num_threads(std::size_t n_threads) {
  the_pool().resize(n_threads);
}

void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
  if (n_tasks == 0) return;
  if (n_tasks == 1) {
    task(0);
    return;
  }
  const auto job = std::make_shared<Job>(n_tasks, task);
  the_pool().run(job);
  if (job->error) std::rethrow_exception(job->error);
}

}  // namespace shortlist
