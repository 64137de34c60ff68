#include "src/system/forks.hpp"

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>  // defines __GLIBC__
#include <memory>
#include <thread>

namespace shortlist {
namespace {

constexpr auto kLongestWait = std::chrono::seconds(1);
constexpr auto kPoll = std::chrono::microseconds(50);

std::atomic<std::uint64_t> forks{0};
std::atomic<unsigned> n_forking{0};  // threads that are about to fork
std::atomic<unsigned> n_uncut{0};    // threads that are not to be cut
thread_local unsigned t_depth = 0;   // of Uncut, of this thread

unsigned n_own() noexcept {
  return t_depth > 0 ? 1 : 0;
}

void before_fork() noexcept {
  ++n_forking;
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (n_uncut > n_own() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kPoll);
  }
}

void after_in_parent() noexcept {
  --n_forking;
}

void after_in_child() noexcept {
  n_forking = 0;
  n_uncut = n_own();
  ++forks;
}

// When the library is loaded, so that there is no fork before.
[[maybe_unused]] const int is_registered =
    ::pthread_atfork(before_fork, after_in_parent, after_in_child);

}  // namespace

std::uint64_t n_forks() noexcept {
  return forks.load();
}

void end_children_early() noexcept {
#ifdef __GLIBC__
  static const std::uint64_t before = n_forks();
  static const int is_heard [[maybe_unused]] = ::on_exit(
      [](int status, void*) {
        if (n_forks() == before) return;
        std::fflush(nullptr);
        ::_exit(status);
      },
      nullptr);
#endif
}

Uncut::Uncut() noexcept {
  if (t_depth++ > 0) return;
  for (;;) {
    ++n_uncut;
    if (n_forking == 0) return;
    --n_uncut;
    while (n_forking > 0) std::this_thread::sleep_for(kPoll);
  }
}

Uncut::~Uncut() {
  if (--t_depth == 0) --n_uncut;
}

struct ForkMutex::State {
  const std::uint64_t made_after_forks = n_forks();
  std::mutex mutex;
};

ForkMutex::ForkMutex() : state_(new State) {}

// What a thread that is no more may hold is left as it is.
ForkMutex::~ForkMutex() {
  const State* const state = state_;
  if (state->made_after_forks == n_forks()) delete state;
}

std::unique_lock<std::mutex> ForkMutex::lock() const {
  State* now = state_;
  if (now->made_after_forks != n_forks()) {
    auto fresh = std::make_unique<State>();
    if (state_.compare_exchange_strong(now, fresh.get())) now = fresh.release();
  }
  return std::unique_lock<std::mutex>(now->mutex);
}

}  // namespace shortlist
