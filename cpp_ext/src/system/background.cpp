#include "shortlist/background.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>  // defines __GLIBC__
#include <exception>
#include <future>
#include <system_error>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace shortlist {
namespace {

constexpr int kNice = 10;  // a tenth of the weight of a thread of nice 0
constexpr auto kPollInterval = std::chrono::milliseconds(50);
constexpr std::uint64_t kSliceNs = 100'000;  // how long requests wait for it where all cores work

}  // namespace

// A nice value is a thread's own on Linux. Lowering it back needs a privilege, so the thread must
// end with its work. Threads of other policies than the usual one keep theirs: to name that one
// would take them out of a lower class. What fails changes nothing: the work is then done as any
// other.
void give_way() noexcept {
#if defined(__linux__) && defined(SYS_sched_setattr) && defined(SYS_sched_getscheduler)
  const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
  const int nice = ::getpriority(PRIO_PROCESS, thread);
  struct {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
  } attributes{48, SCHED_OTHER, 0, nice + kNice > 19 ? 19 : nice + kNice, 0, kSliceNs, 0, 0};
  if (::syscall(SYS_sched_getscheduler, 0) != SCHED_OTHER ||
      ::syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) {
    static_cast<void>(::setpriority(PRIO_PROCESS, thread, attributes.nice));
  }
#endif
}

void run_in_background(const std::function<void()>& work, const std::function<void()>& poll) {
  std::promise<void> promise;
  std::future<void> done = promise.get_future();
  std::thread thread;
  try {
    thread = std::thread([&] {
      give_way();
      try {
        work();
        promise.set_value();
      } catch (...) {
        promise.set_exception(std::current_exception());
      }
    });
  } catch (const std::system_error&) {
    return work();  // no more threads on this system: here then, with the caller's weight
  }
  std::exception_ptr interrupt;
  while (poll && !interrupt && done.wait_for(kPollInterval) != std::future_status::ready) {
    try {
      poll();
    } catch (...) {
      interrupt = std::current_exception();
    }
  }
  thread.join();
  if (interrupt) std::rethrow_exception(interrupt);
  done.get();
}

void give_back_memory() noexcept {
#ifdef __GLIBC__
  static_cast<void>(::malloc_trim(0));
#endif
}

}  // namespace shortlist
