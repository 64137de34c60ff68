// Memory for large arrays (internal): not initialised, aligned to a cache line. Large ones ask for
// huge pages: a scan that reads memory strictly forward waits for address translation otherwise.
#pragma once

#include <sys/mman.h>

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
    const std::size_t alignment = n_bytes < 2 * kHugePage ? kCacheLine : kHugePage;
    if (n_bytes > static_cast<std::size_t>(-1) - alignment) throw std::bad_alloc();
    const std::size_t size = (n_bytes + alignment - 1) / alignment * alignment;
    memory_.reset(std::aligned_alloc(alignment, size));
    if (memory_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE  // a wish: refused, everything works as before
    if (alignment == kHugePage) madvise(memory_.get(), size, MADV_HUGEPAGE);
#endif
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }

 private:
  static constexpr std::size_t kCacheLine = 64;
  static constexpr std::size_t kHugePage = 2 * 1024 * 1024;

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
};

}  // namespace shortlist
