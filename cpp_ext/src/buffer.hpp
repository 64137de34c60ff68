// Memory for large arrays (internal): not initialised, aligned to a cache line.
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
    const bool is_huge = n_bytes >= kHugeFrom;
    const std::size_t alignment = is_huge ? kHugePage : 64;
    if (n_bytes > static_cast<std::size_t>(-1) - alignment) throw std::bad_alloc();
    const std::size_t size = (n_bytes + alignment - 1) / alignment * alignment;
    memory_.reset(std::aligned_alloc(alignment, size));
    if (memory_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    // Fewer page faults while it is filled and fewer address look-ups when rows are read at random.
    if (is_huge) (void)::madvise(memory_.get(), size, MADV_HUGEPAGE);
#endif
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  static constexpr std::size_t kHugeFrom = 8 * kHugePage;  // rounding up wastes a sixteenth at most

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
};

}  // namespace shortlist
