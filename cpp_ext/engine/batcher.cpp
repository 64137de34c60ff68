#include "engine/batcher.hpp"

#include <chrono>
#include <condition_variable>
#include <map>
#include <tuple>

#include "src/system/forks.hpp"

namespace shortlist::engine {

// What a batch's requests have in common. The catalogue is no other's while one of them is inside.
struct Batcher::Key {
  const Catalogue* catalogue;
  std::size_t top_n;
  bool exclude_seen;
  int stages;

  bool operator<(const Key& other) const {
    return std::tie(catalogue, top_n, exclude_seen, stages) <
           std::tie(other.catalogue, other.top_n, other.exclude_seen, other.stages);
  }
};

// Under the mutex of Shared; once it runs, what is its leader's alone is not: nobody joins any
// more, and all others wait for is_done.
struct Batcher::Batch {
  std::vector<const SingleRequest*> requests;
  bool may_start = false, is_done = false, is_answered = false;
  std::condition_variable start, done;
};

// Of the threads of one process.
struct Batcher::Shared {
  const std::uint64_t made_after_forks = n_forks();
  std::mutex mutex;
  std::condition_variable is_idle;
  std::map<Key, std::shared_ptr<Batch>> open;  // may still be joined
  std::size_t n_running = 0;
  BatchCounts counts;
};

// A call that is inside.
class Batcher::Visit {
 public:
  explicit Visit(Shared& shared) : shared_(shared) {
    const std::lock_guard<std::mutex> lock(shared_.mutex);
    ++shared_.counts.n_inside;
  }
  ~Visit() {
    const std::lock_guard<std::mutex> lock(shared_.mutex);
    if (--shared_.counts.n_inside == 0) shared_.is_idle.notify_all();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  Shared& shared_;
};

// A batch that runs. @pre the lock is held at the beginning
class Batcher::Running {
 public:
  Running(const Batcher& batcher, Shared& shared, Batch& batch) noexcept
      : batcher_(batcher), shared_(shared), batch_(batch) {
    ++shared_.n_running;
    ++shared_.counts.n_batches;
    shared_.counts.n_requests += batch.requests.size();
  }
  ~Running() {
    const std::lock_guard<std::mutex> lock(shared_.mutex);
    batch_.is_done = true;
    batch_.done.notify_all();
    if (--shared_.n_running >= batcher_.n_at_once_) return;
    for (auto& [key, waiting] : shared_.open) {
      waiting->may_start = true;
      waiting->start.notify_one();
    }
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  const Batcher& batcher_;
  Shared& shared_;
  Batch& batch_;
};

Batcher::Batcher(const BatchSettings& settings, std::size_t n_at_once, Run run)
    : settings_(settings), n_at_once_(n_at_once), run_(std::move(run)), shared_(new Shared) {}

Batcher::~Batcher() {
  delete &shared();
}

// A forked child has no other thread, so it begins anew. What it finds stays as it is: threads that
// are no more may hold the lock and wait for the rest.
Batcher::Shared& Batcher::shared() const {
  Shared* now = shared_;
  if (now->made_after_forks == n_forks()) return *now;
  auto fresh = std::make_unique<Shared>();
  if (shared_.compare_exchange_strong(now, fresh.get())) return *fresh.release();
  return *now;  // another thread of the child was first
}

void Batcher::answer(const SingleRequest& request) const {
  const Call& call = *request.call;
  const Key key{request.catalogue, call.top_n, call.exclude_seen, call.stages};
  Shared& shared = this->shared();
  const Visit visit(shared);
  std::unique_lock<std::mutex> lock(shared.mutex);
  const auto [batch, leads] = join(shared, key, request);
  if (leads) {
    lead(shared, key, batch, lock);
  } else {
    while (!batch->is_done) batch->done.wait(lock);
  }
  if (lock.owns_lock()) lock.unlock();
  if (!batch->is_answered) run_({&request});
}

Batcher::Joined Batcher::join(Shared& shared, const Key& key, const SingleRequest& request) const {
  auto found = shared.open.find(key);
  const bool leads = found == shared.open.end();
  const std::shared_ptr<Batch> batch = leads ? std::make_shared<Batch>() : found->second;
  batch->requests.push_back(&request);
  if (leads) found = shared.open.emplace(key, batch).first;
  const bool is_full = batch->requests.size() == settings_.max_batch;
  if (is_full || (leads && shared.n_running < n_at_once_)) {
    shared.open.erase(found);
    batch->may_start = true;
    batch->start.notify_one();
  }
  return {batch, leads};
}

// Gives the lock back before it runs the batch.
void Batcher::lead(Shared& shared, const Key& key, const std::shared_ptr<Batch>& batch,
                   std::unique_lock<std::mutex>& lock) const {
  const auto last =
      std::chrono::steady_clock::now() + std::chrono::microseconds(settings_.max_wait_us);
  batch->start.wait_until(lock, last, [&batch] { return batch->may_start; });
  const auto found = shared.open.find(key);
  if (found != shared.open.end() && found->second == batch) shared.open.erase(found);
  const Running running(*this, shared, *batch);
  lock.unlock();
  try {
    run_(batch->requests);
    batch->is_answered = true;
  } catch (...) {
    if (batch->requests.size() == 1) throw;
    // Of several nobody knows yet whose error it is: each answers for itself.
  }
}

void Batcher::drain() const {
  Shared& shared = this->shared();
  std::unique_lock<std::mutex> lock(shared.mutex);
  shared.is_idle.wait(lock, [&shared] { return shared.counts.n_inside == 0; });
}

BatchCounts Batcher::counts() const {
  Shared& shared = this->shared();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  return shared.counts;
}

}  // namespace shortlist::engine
