#include "src/file/file_reader.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "shortlist/file_error.hpp"
#include "shortlist/storage.hpp"
#include "src/rows/packed.hpp"
#include "src/system/buffer.hpp"

namespace shortlist {
namespace {

std::size_t align_up(std::size_t value) {
  return (value + file::kAlignment - 1) / file::kAlignment * file::kAlignment;
}

}  // namespace

FileReader::FileReader(const std::string& path) : FileReader(path, path) {}

FileReader::FileReader(const std::string& path, const std::string& name) : name_(name) {
  map(path);
  read_header();
  check_padding();
}

FileReader::FileReader(const std::string& name, const void* bytes, std::size_t size)
    : name_(name), bytes_(static_cast<const unsigned char*>(bytes)), size_(size) {
  check_size();
  if (reinterpret_cast<std::uintptr_t>(bytes) % file::kAlignment != 0) {
    mapping_ = std::make_shared<Buffer>(size);
    void* copy = static_cast<const Buffer*>(mapping_.get())->as<void>();
    std::memcpy(copy, bytes, size);
    bytes_ = static_cast<const unsigned char*>(copy);
  }
  read_header();
  check_padding();
}

void FileReader::check_size() const {
  if (size_ >= sizeof(file::Header)) return;
  throw_bad("size", "at least " + std::to_string(sizeof(file::Header)) + " bytes",
            std::to_string(size_));
}

void FileReader::throw_bad(const std::string& what, const std::string& expected,
                           const std::string& found) const {
  throw FileError(name_ + ": " + what + ": expected " + expected + ", found " + found +
                  "; the file is damaged or not an index: save it again");
}

void FileReader::map(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_bad("cannot open", "a readable index file", std::strerror(errno));
  descriptor_ = {new int(fd), [](const int* number) {
                   ::close(*number);
                   delete number;
                 }};
  struct stat status;
  const bool is_file = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (is_file) size_ = static_cast<std::size_t>(status.st_size);
  void* data = MAP_FAILED;
  if (is_file && size_ >= sizeof(file::Header)) {
    data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  if (!is_file) throw_bad("not a file", "a regular index file", "a folder or device");
  check_size();
  if (data == MAP_FAILED) throw_bad("cannot map", "a readable file", std::strerror(errno));
  bytes_ = static_cast<const unsigned char*>(data);
  is_mapped_ = true;
  mapping_ = {data, [size = size_](void* mapped) { ::munmap(mapped, size); }};
}

std::shared_ptr<const RowFile> FileReader::rows_at(const void* data) const {
  const int own = ::fcntl(*descriptor_, F_DUPFD_CLOEXEC, 0);
  if (own < 0) throw_bad("cannot keep open", "one more open file", std::strerror(errno));
  const auto offset = static_cast<std::size_t>(static_cast<const unsigned char*>(data) - bytes_);
  return std::make_shared<const RowFile>(own, offset, n_items(), dim(), name_);
}

void FileReader::read_header() {
  std::memcpy(&header_, bytes_, sizeof header_);
  if (std::memcmp(header_.magic, file::kMagic, sizeof header_.magic) != 0) {
    throw_bad("magic", "SHORTIDX", "other bytes");
  }
  if (header_.version != file::kVersion) {
    throw FileError(name_ + ": format version: expected " + std::to_string(file::kVersion) +
                    ", found " + std::to_string(header_.version) +
                    "; save the index again with this release");
  }
  if (header_.checksum != file::checksum(&header_, offsetof(file::Header, checksum))) {
    throw_bad("header checksum", "a match", "a difference");
  }
  if (header_.file_size != size_) {
    throw_bad("size", std::to_string(header_.file_size) + " bytes", std::to_string(size_));
  }
  if (header_.n_sections > file::kMaxSections || header_.metric > 2 || header_.id_kind > 2 ||
      header_.storage >= kStorages || header_.reserved != 0) {
    throw_bad("header", "known metric, id kind, storage and sections", "other values");
  }
  const auto storage = static_cast<Storage>(header_.storage);
  const bool is_codes = is_approximate(storage);
  const std::uint64_t kMaxItems = (std::uint64_t{1} << 31) - 2;
  const std::uint64_t max_dim = is_codes ? kMaxPackedDim : std::uint64_t{1} << 31;
  if (header_.n_items > kMaxItems || header_.dim == 0 || header_.dim > max_dim) {
    throw_bad("shape", "at most 2^31 - 2 rows and 1 to " + std::to_string(max_dim) + " columns",
              "(" + std::to_string(header_.n_items) + ", " + std::to_string(header_.dim) + ")");
  }
  const bool is_measured = header_.recall >= 0 && header_.recall <= 1;
  const bool is_none = header_.recall != header_.recall;  // NaN
  if (!is_none && !(is_codes && is_measured)) {
    throw_bad("recall", "0 to 1, and only with storage int8 or int4",
              std::to_string(header_.recall));
  }
}

void FileReader::check_zeros(std::size_t begin, std::size_t end) const {
  for (std::size_t at = begin; at < end; ++at) {
    if (bytes_[at] != 0) throw_bad("padding", "zeros", "other bytes");
  }
}

// The bytes between sections carry nothing and must be zero: every byte of a file is verified.
void FileReader::check_padding() const {
  std::size_t position = sizeof header_;
  for (std::uint32_t i = 0; i < header_.n_sections; ++i) {
    const file::Section& entry = header_.sections[i];
    const std::size_t start = align_up(position);
    if (start > size_ || entry.offset != start || entry.size > size_ - start) {
      throw_bad("section " + std::to_string(entry.tag),
                "offset " + std::to_string(start) + " and a place inside the file",
                "offset " + std::to_string(entry.offset));
    }
    check_zeros(position, start);
    position = start + static_cast<std::size_t>(entry.size);
  }
  if (size_ - position >= file::kAlignment) {
    throw_bad("size", "no bytes after the last section", "some");
  }
  check_zeros(position, size_);
}

bool FileReader::has_section(std::uint32_t tag) const {
  for (std::uint32_t i = 0; i < header_.n_sections; ++i) {
    if (header_.sections[i].tag == tag) return true;
  }
  return false;
}

// check_padding() has made sure that every section lies inside the file.
SectionBytes FileReader::section(std::uint32_t tag, std::size_t expected_size) const {
  const std::string name = "section " + std::to_string(tag);
  for (std::uint32_t i = 0; i < header_.n_sections; ++i) {
    const file::Section& entry = header_.sections[i];
    if (entry.tag != tag) continue;
    if (expected_size != kAnySize && entry.size != expected_size) {
      throw_bad(name, std::to_string(expected_size) + " bytes", std::to_string(entry.size));
    }
    const unsigned char* data = bytes_ + entry.offset;
    const std::size_t size = static_cast<std::size_t>(entry.size);
    if (file::checksum(data, size) != entry.checksum) {
      throw_bad(name + " checksum", "a match", "a difference");
    }
    return {data, size};
  }
  throw_bad(name, "to be present", "nothing");
}

}  // namespace shortlist
