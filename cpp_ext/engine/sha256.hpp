// SHA-256 as FIPS 180-4 describes it (internal).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shortlist::engine {

class Sha256 {
 public:
  void add(const void* data, std::size_t size);
  // 64 hex digits. Call once, last.
  std::string hex_digest();

 private:
  void add_block(const unsigned char* bytes);

  std::array<std::uint32_t, 8> state_ = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                         0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  std::array<unsigned char, 64> pending_{};  // the first size_ % 64 bytes wait for more
  std::uint64_t size_ = 0;
};

}  // namespace shortlist::engine
