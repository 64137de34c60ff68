// Memory for large arrays (internal): not initialised, aligned to a cache line.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace shortlist {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t n_bytes) {
    if (n_bytes == 0) return;
    if (n_bytes > static_cast<std::size_t>(-1) - kAlignment) throw std::bad_alloc();
    const std::size_t size = (n_bytes + kAlignment - 1) / kAlignment * kAlignment;
    memory_.reset(std::aligned_alloc(kAlignment, size));
    if (memory_ == nullptr) throw std::bad_alloc();
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }

 private:
  static constexpr std::size_t kAlignment = 64;

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
};

}  // namespace shortlist
