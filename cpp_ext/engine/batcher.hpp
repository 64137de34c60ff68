// Micro-batching (internal): requests that come at the same time, each from a thread of its own,
// share one run. No thread of its own.
//
// Whoever finds no batch to join opens one and runs it for all who join. It starts at once while
// there is a core to run it; else when a running one ends, when it is full, or when the first has
// waited long enough.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/call.hpp"
#include "engine/catalogue.hpp"
#include "engine/columns.hpp"

namespace shortlist::engine {

struct BatchSettings {
  std::size_t max_batch = 1;  // 1 = every call goes alone
  std::int64_t max_wait_us = 200;
};

struct BatchCounts {
  std::uint64_t n_requests = 0, n_batches = 0;  // that have begun to run
  std::size_t n_inside = 0;                     // calls that have no answer yet
};

// A call with one request and no filter; borrowed until it is answered.
struct SingleRequest {
  const Call* call;
  const Catalogue* catalogue;
  const std::vector<BoundColumn>* bound;
  std::int64_t user_row;  // of a stored user, -1 = not known
  const AnswerView* answer;
};

class [[gnu::visibility("default")]] Batcher {
 public:
  // Answers requests of one catalogue that want the same.
  using Run = std::function<void(const std::vector<const SingleRequest*>&)>;

  // At most `n_at_once` batches run before others are left to fill. @pre settings.max_batch > 1
  Batcher(const BatchSettings& settings, std::size_t n_at_once, Run run);
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  // Answers one request together with those that are there now. An error of several is nobody's:
  // each is answered alone then, and only the one at fault throws.
  void answer(const SingleRequest& request) const;
  // Waits for the calls that are inside.
  void drain() const;

  const BatchSettings& settings() const { return settings_; }
  BatchCounts counts() const;

 private:
  struct Key;
  struct Batch;
  struct Shared;
  class Visit;
  class Running;
  using Joined = std::pair<std::shared_ptr<Batch>, bool>;  // and whether the caller has to run it

  Shared& shared() const;
  Joined join(Shared& shared, const Key& key, const SingleRequest& request) const;
  void lead(Shared& shared, const Key& key, const std::shared_ptr<Batch>& batch,
            std::unique_lock<std::mutex>& lock) const;

  BatchSettings settings_;
  std::size_t n_at_once_;
  Run run_;
  mutable std::atomic<Shared*> shared_;
};

}  // namespace shortlist::engine
