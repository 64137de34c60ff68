#include "shortlist/file_hash.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "shortlist/file_error.hpp"
#include "src/system/sha256.hpp"

namespace shortlist {

std::string hash_file(int descriptor, const std::string& name,
                      const std::function<void()>& between_blocks) {
  constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
  std::vector<char> block(kBlockBytes);
  Sha256 hash;
  for (;;) {
    if (between_blocks) between_blocks();
    const ssize_t n = ::read(descriptor, block.data(), block.size());
    if (n == 0) return hash.hex_digest();
    if (n > 0) {
      hash.add(block.data(), static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      throw FileError(name + ": expected a file that can be read, found " + std::strerror(errno));
    }
  }
}

}  // namespace shortlist
