// A file of a bundle, mapped to be read (internal).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace shortlist::engine {

struct MappedFile {
  std::shared_ptr<const void> mapping;
  std::size_t size = 0;

  const unsigned char* data() const { return static_cast<const unsigned char*>(mapping.get()); }
};

// Throws FileError for a link, and for what cannot be mapped or has no bytes: `name` is what it
// calls the file, `expected` what it is to be.
MappedFile map_file(const std::string& path, const std::string& name, const std::string& expected);

}  // namespace shortlist::engine
