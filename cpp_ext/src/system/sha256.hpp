// SHA-256 as FIPS 180-4 describes it (internal).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shortlist {

using Sha256State = std::array<std::uint32_t, 8>;
// Takes n blocks of 64 bytes into the state.
using AddBlocks = void (*)(Sha256State& state, const unsigned char* bytes, std::size_t n);

void add_blocks_anywhere(Sha256State& state, const unsigned char* bytes, std::size_t n);
// By the CPU's SHA instructions, several times as fast; null where it has none.
AddBlocks native_add_blocks();

class Sha256 {
 public:
  void add(const void* data, std::size_t size);
  // 64 hex digits. Call once, last.
  std::string hex_digest();

 private:
  Sha256State state_ = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                        0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  std::array<unsigned char, 64> pending_{};  // the first size_ % 64 bytes wait for more
  std::uint64_t size_ = 0;
};

}  // namespace shortlist
