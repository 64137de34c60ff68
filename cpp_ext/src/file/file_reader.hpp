// An index file, mapped and checked (internal): header, sizes, padding and checksums. What the
// sections mean is load.cpp's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "src/file/index_file.hpp"
#include "src/rows/row_file.hpp"

namespace shortlist {

struct SectionBytes {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
};

class FileReader {
 public:
  // Throws FileError unless the header and the places of all sections are as they must be.
  explicit FileReader(const std::string& path);
  FileReader(const std::string& path, const std::string& name);  // errors call the file `name`
  // The same for bytes in memory, which the caller keeps; errors call them `name`.
  FileReader(const std::string& name, const void* bytes, std::size_t size);

  const file::Header& header() const { return header_; }
  std::size_t n_items() const { return static_cast<std::size_t>(header_.n_items); }
  std::size_t dim() const { return static_cast<std::size_t>(header_.dim); }
  std::size_t size() const { return size_; }
  bool has_section(std::uint32_t tag) const;
  // The bytes of one section; throws FileError if it is missing, of another size, or damaged.
  static constexpr std::size_t kAnySize = std::numeric_limits<std::size_t>::max();
  SectionBytes section(std::uint32_t tag, std::size_t expected_size) const;
  // What keeps the bytes where they are; null where the caller does.
  const std::shared_ptr<const void>& mapping() const { return mapping_; }
  bool is_mapped() const { return is_mapped_; }  // by this reader
  // Rows of the checked section at `data`, to be read from the file. @pre is_mapped()
  std::shared_ptr<const RowFile> rows_at(const void* data) const;
  [[noreturn]] void throw_bad(const std::string& what, const std::string& expected,
                              const std::string& found) const;

 private:
  void map(const std::string& path);
  void check_size() const;
  void read_header();
  void check_padding() const;
  void check_zeros(std::size_t begin, std::size_t end) const;

  std::string name_;
  std::shared_ptr<const void> mapping_;
  bool is_mapped_ = false;
  std::shared_ptr<const int> descriptor_;
  const unsigned char* bytes_ = nullptr;
  std::size_t size_ = 0;
  file::Header header_{};
};

}  // namespace shortlist
