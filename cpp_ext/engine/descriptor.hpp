// A file descriptor that closes itself (internal).
#pragma once

#include <unistd.h>

#include <utility>

namespace shortlist::engine {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  // Negative where there is none.
  int number() const { return number_; }

 private:
  int number_ = -1;
};

}  // namespace shortlist::engine
