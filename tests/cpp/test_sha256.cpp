// SHA-256: the examples of FIPS 180, and the CPU's instructions against the portable code.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "src/system/sha256.hpp"

namespace {

using shortlist::Sha256;
using shortlist::Sha256State;

int n_errors = 0;

std::string digest_of(const std::string& text) {
  Sha256 hash;
  hash.add(text.data(), text.size());
  return hash.hex_digest();
}

void expect(const std::string& got, const std::string& expected, const char* what) {
  if (got == expected) return;
  std::printf("%s: got %s, expected %s\n", what, got.c_str(), expected.c_str());
  ++n_errors;
}

void check_examples() {
  expect(digest_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
         "empty");
  expect(digest_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
         "abc");
  expect(digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", "two blocks");
  expect(digest_of(std::string(1'000'000, 'a')),
         "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "a million");
}

// However the bytes come in pieces, the digest is that of the whole.
void check_pieces(std::mt19937& random) {
  std::string text(1000, ' ');
  for (char& byte : text) byte = static_cast<char>(random());
  for (std::size_t size = 0; size <= text.size(); size += 1 + random() % 7) {
    Sha256 hash;
    for (std::size_t at = 0; at < size;) {
      const std::size_t n = std::min<std::size_t>(random() % 150, size - at);
      hash.add(text.data() + at, n);
      at += n;
    }
    expect(hash.hex_digest(), digest_of(text.substr(0, size)), "pieces");
  }
}

void check_native(std::mt19937& random) {
  const auto native = shortlist::native_add_blocks();
  if (native == nullptr) {
    std::puts("this CPU has no SHA instructions: only the portable code is tested");
    return;
  }
  for (std::size_t n = 0; n < 40; ++n) {
    std::vector<unsigned char> bytes(64 * n + 1);
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
    Sha256State one{}, other{};
    for (std::size_t i = 0; i < one.size(); ++i) {
      one[i] = other[i] = static_cast<std::uint32_t>(random());
    }
    native(one, bytes.data() + 1, n);
    shortlist::add_blocks_anywhere(other, bytes.data() + 1, n);
    if (one != other) {
      std::printf("%zu blocks: the CPU's instructions give another state\n", n);
      ++n_errors;
    }
  }
}

}  // namespace

int main() {
  std::mt19937 random(1);
  check_examples();
  check_pieces(random);
  check_native(random);
  return n_errors == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
