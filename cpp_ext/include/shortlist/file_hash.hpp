// The sha256 of a file, by which a bundle's manifest vouches for it.
#pragma once

#include <string>

namespace [[gnu::visibility("default")]] shortlist {

// 64 hex digits of what an open file has from its present place on. Memory: 1 MiB. Throws
// FileError, which calls the file `name`, if it cannot be read.
std::string hash_file(int descriptor, const std::string& name);

}  // namespace shortlist
