#include "src/rows/row_file.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "shortlist/file_error.hpp"

namespace shortlist {

RowFile::RowFile(int descriptor, std::size_t offset, std::size_t n_rows, std::size_t n_numbers,
                 std::string name)
    : descriptor_(descriptor),
      offset_(offset),
      n_rows_(n_rows),
      n_numbers_(n_numbers),
      name_(std::move(name)) {}

RowFile::~RowFile() {
  ::close(descriptor_);
}

void RowFile::throw_bad(std::size_t row, const std::string& found) const {
  throw FileError(name_ + ": vector " + std::to_string(row) + ": expected " +
                  std::to_string(n_numbers_ * sizeof(float)) + " bytes, found " + found +
                  "; the file was changed while it was in use: save the index again, and load it");
}

void RowFile::read(std::size_t row, float* out) const {
  char* to = reinterpret_cast<char*>(out);
  std::size_t n_left = n_numbers_ * sizeof(float);
  std::size_t at = offset_ + row * n_left;
  while (n_left > 0) {
    const ssize_t n = ::pread(descriptor_, to, n_left, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_bad(row, std::strerror(errno));
    if (n == 0) throw_bad(row, "the end of the file");
    to += n, at += static_cast<std::size_t>(n), n_left -= static_cast<std::size_t>(n);
  }
}

std::shared_ptr<const void> RowFile::map() const {
  const std::size_t size = offset_ + n_rows_ * n_numbers_ * sizeof(float);
  struct stat status;
  if (::fstat(descriptor_, &status) != 0) throw_bad(0, std::strerror(errno));
  if (static_cast<std::size_t>(status.st_size) < size) throw_bad(n_rows_, "the end of the file");
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (data == MAP_FAILED) throw_bad(0, std::strerror(errno));
  const std::shared_ptr<const void> whole(data, [size](void* mapped) { ::munmap(mapped, size); });
  return {whole, static_cast<const char*>(data) + offset_};
}

}  // namespace shortlist
