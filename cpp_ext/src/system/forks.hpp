// Forks (internal): what a child may rely on, and the one place that hears of them.
//
// A child has one thread, the one that forked: what other threads of its parent held stays held,
// what they were changing stays half changed. Therefore
//   a short change of what others read is never cut: forks wait for it (Uncut);
//   locks that are held for longer are free in a child (ForkMutex);
//   what has threads of its own compares n_forks(), and is made anew in a child.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace shortlist {

// How many forks lie between this process and the one that loaded the library.
std::uint64_t n_forks() noexcept;

// From now on children end without the exit handlers that were there before. For libraries with
// threads, which wait there for threads that a child has not: ONNX Runtime.
void end_children_early() noexcept;

// While one lives, a fork by another thread waits, for a second at most. Meanwhile new ones wait
// for the fork, so none may be held while a host's code runs. May be nested.
class Uncut {
 public:
  Uncut() noexcept;
  ~Uncut();
  Uncut(const Uncut&) = delete;
  Uncut& operator=(const Uncut&) = delete;
};

class [[gnu::visibility("default")]] ForkMutex {
 public:
  ForkMutex();
  ~ForkMutex();
  ForkMutex(const ForkMutex&) = delete;
  ForkMutex& operator=(const ForkMutex&) = delete;

  [[nodiscard]] std::unique_lock<std::mutex> lock() const;

 private:
  struct State;

  mutable std::atomic<State*> state_;  // of one process
};

}  // namespace shortlist
