#include "engine/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "engine/descriptor.hpp"
#include "shortlist/file_error.hpp"

namespace shortlist::engine {

MappedFile map_file(const std::string& path, const std::string& name, const std::string& expected) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (file.number() < 0 || ::fstat(file.number(), &status) != 0 || status.st_size <= 0) {
    const std::string found = file.number() < 0 ? std::strerror(errno) : "no bytes";
    throw FileError(name + ": expected " + expected + ", found " + found);
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (data == MAP_FAILED) {
    throw FileError(name + ": expected a file that can be mapped, found " + std::strerror(errno));
  }
  return {{data, [size](const void* at) { ::munmap(const_cast<void*>(at), size); }}, size};
}

}  // namespace shortlist::engine
