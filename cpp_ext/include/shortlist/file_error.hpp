// What opening and writing files throws.
#pragma once

#include <stdexcept>

namespace [[gnu::visibility("default")]] shortlist {

// A file that is missing, damaged, or not what it says. what() names file, expected and found.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace shortlist
