#include "src/rows/id_hash.hpp"

#include <cstddef>
#include <cstring>
#include <random>

namespace shortlist {
namespace {

HashKey draw_key() {
  std::random_device device;
  const auto draw = [&device] { return std::uint64_t{device()} << 32 | device(); };
  const std::uint64_t first = draw();
  return {first, draw()};
}

std::uint64_t rotated(std::uint64_t value, unsigned bits) {
  return value << bits | value >> (64 - bits);
}

struct SipState {
  std::uint64_t a, b, c, d;

  void round() {
    a += b;
    b = rotated(b, 13) ^ a;
    a = rotated(a, 32);
    c += d;
    d = rotated(d, 16) ^ c;
    a += d;
    d = rotated(d, 21) ^ a;
    c += b;
    b = rotated(b, 17) ^ c;
    c = rotated(c, 32);
  }
  void take(std::uint64_t word) {
    d ^= word;
    round();
    a ^= word;
  }
};

}  // namespace

const HashKey& hash_key() {
  static const HashKey key = draw_key();
  return key;
}

std::uint64_t hash_of(std::string_view id, const HashKey& key) {
  SipState state{key.first ^ 0x736F6D6570736575ULL, key.second ^ 0x646F72616E646F6DULL,
                 key.first ^ 0x6C7967656E657261ULL, key.second ^ 0x7465646279746573ULL};
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  std::size_t at = 0;
  std::uint64_t word = 0;
  for (; at + kWord <= id.size(); at += kWord) {
    std::memcpy(&word, id.data() + at, kWord);  // little-endian, as all machines that we run on
    state.take(word);
  }
  word = std::uint64_t{id.size()} << 56;
  for (unsigned shift = 0; at < id.size(); ++at, shift += 8) {
    word |= std::uint64_t{static_cast<unsigned char>(id[at])} << shift;
  }
  state.take(word);
  state.c ^= 0xFF;
  for (int i = 0; i < 3; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}

}  // namespace shortlist
