// Python's interpreter lock, given up for long work and taken back: also while the interpreter
// ends.
//
// Before 3.14 Python ends a thread that asks for the lock too late, by unwinding its stack from
// inside the call. C++ must not be unwound like that: destructors are noexcept, and others may wait
// for what the thread was about to do. So such a thread stays where it is until the process is
// over, as it does in Python 3.14.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <chrono>

namespace shortlist::bindings {

// Calls `take`, and never returns where Python unwinds out of it.
template <class Take>
auto take_or_stay(const Take& take) noexcept {
  try {
    return take();
  } catch (...) {
    for (;;) ::pause();
  }
}

// Work without the interpreter. @pre the thread has it
class Released {
 public:
  Released() : thread_(PyEval_SaveThread()) {}
  ~Released() {
    take_or_stay([this] { PyEval_RestoreThread(thread_); });
  }
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;

 private:
  PyThreadState* thread_;
};

// The interpreter, for a moment inside of such work.
class Taken {
 public:
  Taken() : state_(take_or_stay([] { return PyGILState_Ensure(); })) {}
  ~Taken() { PyGILState_Release(state_); }
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;

 private:
  PyGILState_STATE state_;
};

// Lets Python's signal handlers run, at most every tenth of a second: an interrupt ends a long
// call. Called inside of work without the interpreter.
class Interruption {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const Taken taken;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace shortlist::bindings
