// Rows of float32 numbers that stay in a file (internal): each is read when it is needed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace shortlist {

// Reads at given places of an open file, from any number of threads and forks. The file may be
// renamed or replaced; its rows are those of the one that was opened. What is read passes through
// the page cache and counts as no memory of this process.
class RowFile {
 public:
  // Owns the file descriptor. Rows of n_numbers begin at byte `offset`. Errors call the file
  // `name`.
  RowFile(int descriptor, std::size_t offset, std::size_t n_rows, std::size_t n_numbers,
          std::string name);
  ~RowFile();
  RowFile(const RowFile&) = delete;
  RowFile& operator=(const RowFile&) = delete;

  // n_numbers floats to out. Throws FileError if the file has become shorter, or cannot be read.
  void read(std::size_t row, float* out) const;
  // All rows, mapped for as long as the pointer lives. Throws FileError as above.
  std::shared_ptr<const void> map() const;

 private:
  [[noreturn]] void throw_bad(std::size_t row, const std::string& found) const;

  int descriptor_;
  std::size_t offset_, n_rows_, n_numbers_;
  std::string name_;
};

}  // namespace shortlist
