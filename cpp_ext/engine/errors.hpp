// What the engine throws beside FileError and std::invalid_argument (internal).
#pragma once

#include <stdexcept>

namespace shortlist::engine {

// There is no ONNX Runtime, or none that will do. what() says where it was sought and the fix.
class [[gnu::visibility("default")]] RuntimeMissing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device was asked for, and does not run. what() says what runs instead and the fix.
class [[gnu::visibility("default")]] DeviceMissing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The system gives this process no more threads. what() says how many were wanted and the fix.
class [[gnu::visibility("default")]] ThreadsMissing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace shortlist::engine
