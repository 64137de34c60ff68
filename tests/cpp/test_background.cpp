// Work in the background: it gives way, its errors and interrupts come out; hashing of files.
#include "shortlist/background.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "shortlist/file_error.hpp"
#include "shortlist/file_hash.hpp"
#include "src/system/sha256.hpp"

namespace {

int n_errors = 0;

void expect(bool is_right, const char* what) {
  if (is_right) return;
  std::printf("%s\n", what);
  ++n_errors;
}

int nice_value() {
  return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)));
}

void check_gives_way() {
  const int before = nice_value();
  int inside = before;
  shortlist::run_in_background([&] { inside = nice_value(); });
  expect(inside == std::min(before + 10, 19), "work in the background: does not give way");
  expect(nice_value() == before, "the caller of work in the background: gives way");
}

void check_lower_class(int policy, const char* what) {
  int found = -1, difference = 0;
  const int before = nice_value();
  std::thread([&] {
    const sched_param none{};
    if (::sched_setscheduler(0, policy, &none) != 0) return;
    shortlist::give_way();
    found = ::sched_getscheduler(0);
    difference = nice_value() - before;
  }).join();
  expect(found == policy && difference == std::min(10, 19 - before), what);
}

std::string error_of(const std::function<void()>& work, const std::function<void()>& poll) {
  try {
    shortlist::run_in_background(work, poll);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

void check_errors() {
  const auto fail = [] { throw std::runtime_error("as it was"); };
  expect(error_of(fail, {}) == "as it was", "an error without a poll: lost");
  expect(error_of(fail, [] {}) == "as it was", "an error with a poll: lost");
  expect(error_of([] {}, [] {}).empty(), "no error: one came");
}

void check_interrupt() {
  std::atomic<bool> is_interrupted{false}, is_over{false};
  const auto work = [&] {
    while (!is_interrupted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    is_over = true;
    throw std::runtime_error("of the work");
  };
  const auto poll = [&] {
    is_interrupted = true;
    throw std::runtime_error("of the poll");
  };
  expect(error_of(work, poll) == "of the poll", "an interrupt: lost");
  expect(is_over, "an interrupt: came out before the work had ended");
}

void check_hash(std::size_t size) {
  std::vector<char> data(size);
  for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 2654435761U >> 13);
  std::FILE* const file = std::tmpfile();
  expect(file != nullptr && std::fwrite(data.data(), 1, size, file) == size, "no temporary file");
  if (file == nullptr) return;
  std::rewind(file);
  shortlist::Sha256 hash;
  hash.add(data.data(), size);
  std::size_t n_calls = 0;
  const std::string found = shortlist::hash_file(::fileno(file), "file", [&] { ++n_calls; });
  expect(found == hash.hex_digest(), "the hash of a file: another one");
  expect(n_calls > size >> 20, "between blocks: not called");
  std::fclose(file);
}

void check_unreadable() {
  try {
    shortlist::hash_file(-1, "tiny/items.index");
    expect(false, "a file that cannot be read: was read");
  } catch (const shortlist::FileError& error) {
    const std::string expected = "tiny/items.index: expected a file that can be read, found ";
    expect(std::string(error.what()).rfind(expected, 0) == 0, error.what());
  }
}

}  // namespace

int main() {
#ifdef __linux__
  check_gives_way();
  check_lower_class(SCHED_BATCH, "SCHED_BATCH: left");
  check_lower_class(SCHED_IDLE, "SCHED_IDLE: left");
#endif
  check_errors();
  check_interrupt();
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{64}, (std::size_t{1} << 20) - 1,
        std::size_t{1} << 20, (std::size_t{2} << 20) + 7}) {
    check_hash(size);
  }
  check_unreadable();
  if (n_errors == 0) std::printf("background: all as expected\n");
  return n_errors == 0 ? 0 : 1;
}
