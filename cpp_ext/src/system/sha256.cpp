#include "src/system/sha256.hpp"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace shortlist {
namespace {

alignas(16) constexpr std::uint32_t kRounds[64] = {
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2};

std::uint32_t rotate(std::uint32_t word, int n) {
  return (word >> n) | (word << (32 - n));
}

std::uint32_t big_endian(const unsigned char* bytes) {
  return (std::uint32_t{bytes[0]} << 24) | (std::uint32_t{bytes[1]} << 16) |
         (std::uint32_t{bytes[2]} << 8) | bytes[3];
}

void add_block(Sha256State& state, const unsigned char* bytes) {
  std::uint32_t words[64];
  for (int i = 0; i < 16; ++i) words[i] = big_endian(bytes + 4 * i);
  for (int i = 16; i < 64; ++i) {
    const std::uint32_t a = words[i - 15], b = words[i - 2];
    words[i] = words[i - 16] + words[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ (a >> 3)) +
               (rotate(b, 17) ^ rotate(b, 19) ^ (b >> 10));
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (int i = 0; i < 64; ++i) {
    const std::uint32_t first = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                                ((e & f) ^ (~e & g)) + kRounds[i] + words[i];
    const std::uint32_t second =
        (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + first;
    d = c;
    c = b;
    b = a;
    a = first + second;
  }
  const std::uint32_t added[8] = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state[i] += added[i];
}

#if defined(__x86_64__)

// Intel SHA extensions: a register holds words A, B, E, F, the other one C, D, G, H, highest first,
// and one instruction does two rounds.
__attribute__((target("sha,sse4.1"))) void add_blocks_sha(Sha256State& state,
                                                          const unsigned char* bytes,
                                                          std::size_t n) {
  const __m128i big_endian_words = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
  auto* words = reinterpret_cast<__m128i*>(state.data());
  const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xB1);
  const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1B);
  __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
  __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
  for (; n > 0; --n, bytes += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i message[4];  // the last 16 words
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      __m128i& next = message[i % 4];
      if (i < 4) {
        next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes) + i);
        next = _mm_shuffle_epi8(next, big_endian_words);
      } else {
        const __m128i last = message[(i + 3) % 4];
        next = _mm_sha256msg1_epu32(next, message[(i + 1) % 4]);
        next = _mm_add_epi32(next, _mm_alignr_epi8(last, message[(i + 2) % 4], 4));
        next = _mm_sha256msg2_epu32(next, last);
      }
      const auto* round = reinterpret_cast<const __m128i*>(kRounds) + i;
      __m128i added = _mm_add_epi32(next, _mm_load_si128(round));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, added);
      added = _mm_shuffle_epi32(added, 0x0E);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, added);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(words + 1, _mm_alignr_epi8(dchg, feba, 8));
}

bool has_sha() {
  __builtin_cpu_init();
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__builtin_cpu_supports("sse4.1") || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
    return false;
  }
  return (b >> 29 & 1) != 0;
}

#endif

}  // namespace

void add_blocks_anywhere(Sha256State& state, const unsigned char* bytes, std::size_t n) {
  for (; n > 0; --n, bytes += 64) add_block(state, bytes);
}

AddBlocks native_add_blocks() {
#if defined(__x86_64__)
  static const bool is_there = has_sha();
  if (is_there) return add_blocks_sha;
#endif
  return nullptr;
}

void Sha256::add(const void* data, std::size_t size) {
  const AddBlocks native = native_add_blocks();
  const AddBlocks add_blocks = native != nullptr ? native : add_blocks_anywhere;
  const auto* bytes = static_cast<const unsigned char*>(data);
  const std::size_t n_pending = size_ % 64;
  size_ += size;
  if (n_pending > 0) {
    const std::size_t n = std::min(size, 64 - n_pending);
    std::memcpy(pending_.data() + n_pending, bytes, n);
    if (n_pending + n < 64) return;
    add_blocks(state_, pending_.data(), 1);
    bytes += n;
    size -= n;
  }
  add_blocks(state_, bytes, size / 64);
  std::memcpy(pending_.data(), bytes + size / 64 * 64, size % 64);
}

std::string Sha256::hex_digest() {
  const std::uint64_t n_bits = size_ * 8;
  const std::size_t n_pending = size_ % 64;
  unsigned char end[72] = {0x80};
  const std::size_t n_zeros = (n_pending < 56 ? 56 : 120) - n_pending;  // 0x80 included
  for (std::size_t i = 0; i < 8; ++i) {
    end[n_zeros + i] = static_cast<unsigned char>(n_bits >> (56 - 8 * i));
  }
  add(end, n_zeros + 8);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) text.push_back(kDigits[(word >> shift) & 0xF]);
  }
  return text;
}

}  // namespace shortlist
