#include "shortlist/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "src/system/cpu_count.hpp"
#include "src/system/forks.hpp"

namespace shortlist {
namespace {

// One parallel_for.
struct Job {
  Job(std::size_t n, const std::function<void(std::size_t)>& f) : n_tasks(n), task(&f) {}

  const std::size_t n_tasks;
  const std::function<void(std::size_t)>* task;  // valid until n_done == n_tasks
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::condition_variable all_done;
  std::size_t n_done = 0;
  std::exception_ptr error;

  void run(std::size_t i) noexcept {
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

  // Runs the next task; false if none is left to start.
  bool run_next() noexcept {
    const std::size_t i = next.fetch_add(1);
    if (i >= n_tasks) return false;
    run(i);
    return true;
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    all_done.wait(lock, [this] { return n_done == n_tasks; });
  }
};

std::size_t default_threads() {
  return std::min(usable_cpus(), kMaxThreads);
}

class Pool {
 public:
  explicit Pool(std::size_t n_threads) : size_(n_threads) {}

  std::size_t size() const { return size_.load(); }
  bool is_of_this_process() const { return made_after_forks_ == n_forks(); }

  void resize(std::size_t n_threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    size_.store(n_threads);
    wake_.notify_all();  // surplus workers leave
  }

  // A caller that works alone still counts, so that others wake fewer workers beside it.
  void run_alone(const std::function<void(std::size_t)>& task) {
    struct Guard {
      explicit Guard(Pool& pool) : pool_(pool) { pool_.n_working_.fetch_add(1); }
      ~Guard() { pool_.leave(); }
      Pool& pool_;
    } guard(*this);
    task(0);
  }

  void run(const std::shared_ptr<Job>& job) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(job);
      n_jobs_.fetch_add(1);
      const std::size_t n_working = n_working_.fetch_add(1) + 1;
      const std::size_t n_free = size() > n_working ? size() - n_working : 0;
      const std::size_t n_helpers = std::min(n_free, job->n_tasks - 1);
      start_workers(n_helpers);
      for (std::size_t i = 0; i < n_helpers; ++i) wake_.notify_one();
    }
    while (job->run_next()) {
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      forget(job);
    }
    leave();
    job->wait();
  }

 private:
  // @pre mutex_ is held, as in the functions below
  void start_workers(std::size_t n_idle) {
    while (n_workers_ - n_busy_ < n_idle) {
      try {
        std::thread(&Pool::work, this).detach();
      } catch (const std::system_error&) {
        return;  // no more threads on this system: the caller works with those there are
      }
      ++n_workers_;
    }
  }

  void forget(const std::shared_ptr<Job>& job) {
    const auto found = std::find(jobs_.begin(), jobs_.end(), job);
    if (found == jobs_.end()) return;
    jobs_.erase(found);
    n_jobs_.fetch_sub(1);
  }

  // One thread fewer works; a job that still has tasks may want a worker for it.
  void leave() {
    n_working_.fetch_sub(1);
    if (n_jobs_.load() == 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_one();
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] {
        return n_workers_ >= size() || (!jobs_.empty() && n_working_.load() < size());
      });
      if (n_workers_ >= size()) {
        --n_workers_;
        return;
      }
      const std::shared_ptr<Job> job = jobs_.front();
      n_working_.fetch_add(1);
      ++n_busy_;
      lock.unlock();
      bool is_left = true;
      do {
        is_left = job->run_next();
      } while (is_left && n_working_.load() <= size());  // else callers came: make room
      lock.lock();
      --n_busy_;
      n_working_.fetch_sub(1);
      if (!is_left) forget(job);
    }
  }

  const std::uint64_t made_after_forks_ = n_forks();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> jobs_;
  std::atomic<std::size_t> n_jobs_{0};  // jobs_.size(), read without the mutex
  std::size_t n_workers_ = 0;
  std::size_t n_busy_ = 0;                 // workers that work
  std::atomic<std::size_t> n_working_{0};  // and callers that do
  std::atomic<std::size_t> size_;
};

// Never destroyed: workers may sleep in it until the process ends. After a fork the child has no
// workers, so it gets a new pool.
std::atomic<Pool*> pool{nullptr};
std::once_flag pool_once;

Pool& the_pool() {
  std::call_once(pool_once, [] { pool = new Pool(default_threads()); });
  Pool* now = pool;
  if (now->is_of_this_process()) return *now;
  auto fresh = std::make_unique<Pool>(now->size());
  if (pool.compare_exchange_strong(now, fresh.get())) return *fresh.release();
  return *now;  // another thread of the child was first
}

// Executors are never freed: calls under way may still read one. Null = the pool.
std::atomic<const Executor*> host{nullptr};

// A job whose tasks a host runs: only those that there are, and each only once.
struct HostJob {
  explicit HostJob(Job& given) : job(given), is_begun(given.n_tasks) {}

  Job& job;
  std::vector<std::atomic<bool>> is_begun;
  std::atomic<bool> has_other{false};

  void run(std::size_t i) noexcept {
    if (i < job.n_tasks && !is_begun[i].exchange(true)) {
      job.run(i);
    } else {
      has_other = true;
    }
  }
};

void run_on_host(const Executor& executor, Job& job) {
  HostJob host_job(job);
  executor.run(
      executor.context, job.n_tasks,
      [](void* context, std::size_t i) { static_cast<HostJob*>(context)->run(i); }, &host_job);
  const std::lock_guard<std::mutex> lock(job.mutex);
  if (job.n_done != job.n_tasks || host_job.has_other) {
    throw std::runtime_error("executor: ran " + std::to_string(job.n_done) + " of " +
                             std::to_string(job.n_tasks) + " tasks" +
                             (host_job.has_other ? ", and some twice or beyond the last" : "") +
                             "; expected each to be run once before `run` returns");
  }
}

void check_count(std::size_t n_threads, std::size_t least) {
  if (n_threads >= least && n_threads <= kMaxThreads) return;
  throw std::invalid_argument("n_threads: got " + std::to_string(n_threads) + "; expected " +
                              std::to_string(least) + " to " + std::to_string(kMaxThreads));
}

}  // namespace

std::size_t num_threads() {
  const Executor* executor = host.load();
  return executor == nullptr ? the_pool().size() : executor->n_threads;
}

void set_num_threads(std::size_t n_threads) {
  check_count(n_threads, 0);
  the_pool().resize(n_threads == 0 ? default_threads() : n_threads);
}

void set_executor(const Executor& executor) {
  if (executor.run == nullptr) {
    host = nullptr;
    return;
  }
  check_count(executor.n_threads, 1);
  host = new Executor(executor);
}

void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
  if (n_tasks == 0) return;
  const Executor* executor = host.load();
  if (n_tasks == 1) {
    if (executor != nullptr) return task(0);
    return the_pool().run_alone(task);
  }
  const auto job = std::make_shared<Job>(n_tasks, task);
  if (executor != nullptr) {
    run_on_host(*executor, *job);
  } else {
    the_pool().run(job);
  }
  if (job->error) std::rethrow_exception(job->error);
}

}  // namespace shortlist
