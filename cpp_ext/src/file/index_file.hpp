// The index file: a fixed header, then sections aligned to 64 bytes. docs/exact_top_n.md
// explains it. All numbers are little-endian; the format does not depend on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shortlist::file {

constexpr char kMagic[8] = {'S', 'H', 'O', 'R', 'T', 'I', 'D', 'X'};
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kMaxSections = 12;
constexpr std::size_t kAlignment = 64;

enum SectionTag : std::uint32_t {
  kNone = 0,
  kRows = 1,          // float32, float16 or bfloat16 (n_items, dim); absent for int8 and int4
  kIntIds = 2,        // int64 (n_items,)
  kIdBytes = 3,       // UTF-8 of all string ids, one after the other
  kIdOffsets = 4,     // int64 (n_items + 1,)
  kCodes = 5,         // uint8 [n_blocks][n_groups][64][4]; absent where kNibbles stand alone
  kOrder = 6,         // uint32 (n_items,): position in the codes -> row; absent = the same
  kStats = 7,         // float64 [6][n_blocks]
  kScales = 8,        // float32 (n_items,): int8 and int4 only
  kNibbles = 9,       // uint8 [n_blocks][n_groups / 2][64][4]; beside kCodes if there are many
  kNibbleStats = 10,  // float64 [3][n_blocks]; with kNibbles and kCodes or kQuarters
  kQuarters = 11,     // uint8 [n_blocks][(n_groups + 3) / 4][64][4]; disk6 only
};

struct Section {
  std::uint32_t tag;
  std::uint32_t reserved;
  std::uint64_t offset;  // from the start of the file
  std::uint64_t size;    // bytes
  std::uint64_t checksum;
};

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t n_sections;
  std::uint32_t metric;
  std::uint32_t id_kind;
  std::uint64_t n_items;
  std::uint64_t dim;
  std::uint64_t file_size;
  std::uint32_t storage;
  std::uint32_t reserved;
  double recall;  // NaN unless storage is int8 or int4
  Section sections[kMaxSections];
  std::uint64_t checksum;  // of all header bytes before this field
};
static_assert(sizeof(Section) == 32 && sizeof(Header) == 64 + 32 * kMaxSections + 8);

// A 64-bit checksum in eight independent lanes, about memory speed. It finds damage; it is no
// protection against someone who forges a file, so loading never trusts sizes it did not check.
std::uint64_t checksum(const void* data, std::size_t size);

}  // namespace shortlist::file
