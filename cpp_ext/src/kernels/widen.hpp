// Table::widen, compiled once per instruction set (static: every kernel file has its own).
#pragma once

#include <cstring>

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {

// Eight codes at a time, which a compiler makes vectors of.
using CodeWord = uint64_t;
constexpr CodeWord kEveryByte = 0x0101010101010101U;

// Two groups of four-bit codes.
static inline void widen_nibbles(const uint8_t* nibbles, uint8_t* out) {
  for (size_t i = 0; i < kGroupBytes; i += sizeof(CodeWord)) {
    CodeWord both;
    std::memcpy(&both, nibbles + i, sizeof both);
    const CodeWord first = both & 15 * kEveryByte, second = both >> 4 & 15 * kEveryByte;
    std::memcpy(out + i, &first, sizeof first);
    std::memcpy(out + kGroupBytes + i, &second, sizeof second);
  }
}

// Two groups of six-bit codes, whose low bits are at kShift and kShift + 2 of `quarters`.
template <unsigned kShift>
static inline void widen_six(const uint8_t* nibbles, const uint8_t* quarters, uint8_t* out) {
  for (size_t i = 0; i < kGroupBytes; i += sizeof(CodeWord)) {
    CodeWord both, low;
    std::memcpy(&both, nibbles + i, sizeof both);
    std::memcpy(&low, quarters + i, sizeof low);
    const CodeWord first = (both & 15 * kEveryByte) << 2 | (low >> kShift & 3 * kEveryByte);
    const CodeWord second = (both >> 2 & 60 * kEveryByte) | (low >> (kShift + 2) & 3 * kEveryByte);
    std::memcpy(out + i, &first, sizeof first);
    std::memcpy(out + kGroupBytes + i, &second, sizeof second);
  }
}

static void widen(const uint8_t* nibbles, const uint8_t* quarters, size_t n_blocks, size_t n_groups,
                  uint8_t* out) {
  for (size_t block = 0; block < n_blocks; ++block) {
    for (size_t pair = 0; pair < n_groups / 2; ++pair) {
      if (quarters == nullptr) {
        widen_nibbles(nibbles, out);
      } else if (pair % 2 == 0) {
        widen_six<0>(nibbles, quarters, out);
      } else {
        widen_six<4>(nibbles, quarters, out);
      }
      nibbles += kGroupBytes, out += 2 * kGroupBytes;
      // A quad is two pairs, the last one of a block perhaps only one.
      const bool is_last = pair + 1 == n_groups / 2;
      if (quarters != nullptr && (pair % 2 == 1 || is_last)) quarters += kGroupBytes;
    }
  }
}

}  // namespace shortlist::kernels
