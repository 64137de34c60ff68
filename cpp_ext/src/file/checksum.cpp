#include <cstring>

#include "src/file/index_file.hpp"

namespace shortlist::file {
namespace {

constexpr std::uint64_t kPrimeA = 0x9E3779B185EBCA87ULL;
constexpr std::uint64_t kPrimeB = 0xC2B2AE3D27D4EB4FULL;

// Both steps are bijective in `lane`, so one changed word always changes the result.
std::uint64_t absorb(std::uint64_t lane, std::uint64_t word) {
  lane = (lane ^ word) * kPrimeA;
  return (lane << 31) | (lane >> 33);
}

}  // namespace

std::uint64_t checksum(const void* data, std::size_t size) {
  constexpr std::size_t kStripes = 8;
  const unsigned char* bytes = static_cast<const unsigned char*>(data);
  std::uint64_t lanes[kStripes];
  for (std::size_t k = 0; k < kStripes; ++k) lanes[k] = kPrimeB * (k + 1);
  std::size_t position = 0;
  for (; position + 64 <= size; position += 64) {
    std::uint64_t words[kStripes];
    std::memcpy(words, bytes + position, 64);
    for (std::size_t k = 0; k < kStripes; ++k) lanes[k] = absorb(lanes[k], words[k]);
  }
  std::uint64_t tail[kStripes] = {};
  if (position < size) std::memcpy(tail, bytes + position, size - position);
  std::uint64_t result = static_cast<std::uint64_t>(size) * kPrimeB;
  for (std::size_t k = 0; k < kStripes; ++k) {
    result = absorb(result, absorb(lanes[k], tail[k]));
  }
  return result ^ (result >> 29);
}

}  // namespace shortlist::file
