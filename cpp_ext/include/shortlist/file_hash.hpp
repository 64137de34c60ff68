// The sha256 of a file, by which a bundle's manifest vouches for it.
#pragma once

#include <functional>
#include <string>

namespace [[gnu::visibility("default")]] shortlist {

// 64 hex digits of what an open file has from its present place on. Memory: 1 MiB. Throws
// FileError, which calls the file `name`, if it cannot be read. `between_blocks` is called every
// MiB, unless empty; what it throws ends the work.
std::string hash_file(int descriptor, const std::string& name,
                      const std::function<void()>& between_blocks = {});

}  // namespace shortlist
