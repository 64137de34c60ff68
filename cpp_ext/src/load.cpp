// Index::load: nothing in the file is believed before it is checked, and no allocation is larger
// than the file itself.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "index_file.hpp"
#include "snapshot.hpp"

namespace shortlist {
namespace {

[[noreturn]] void throw_bad(const std::string& path, const std::string& what,
                            const std::string& expected, const std::string& found) {
  throw FileError(path + ": " + what + ": expected " + expected + ", found " + found +
                  "; the file is damaged or not an index: save it again");
}

// The whole file, mapped read-only.
class Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw_bad(path, "cannot open", "a readable index file", std::strerror(errno));
    struct stat status;
    const bool is_file = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    if (is_file) size_ = static_cast<std::size_t>(status.st_size);
    if (is_file && size_ >= sizeof(file::Header)) {
      data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    ::close(fd);
    if (!is_file) throw_bad(path, "not a file", "a regular index file", "a folder or device");
    if (size_ < sizeof(file::Header)) {
      throw_bad(path, "size", "at least " + std::to_string(sizeof(file::Header)) + " bytes",
                std::to_string(size_));
    }
    if (data_ == MAP_FAILED) throw_bad(path, "cannot map", "a readable file", std::strerror(errno));
  }
  ~Mapping() {
    if (data_ != MAP_FAILED) ::munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const unsigned char* bytes() const { return static_cast<const unsigned char*>(data_); }
  std::size_t size() const { return size_; }

 private:
  void* data_ = MAP_FAILED;
  std::size_t size_ = 0;
};

file::Header checked_header(const std::string& path, const Mapping& mapping) {
  file::Header header;
  std::memcpy(&header, mapping.bytes(), sizeof header);
  if (std::memcmp(header.magic, file::kMagic, sizeof header.magic) != 0) {
    throw_bad(path, "magic", "SHORTIDX", "other bytes");
  }
  if (header.version != file::kVersion) {
    throw FileError(path + ": format version: expected " + std::to_string(file::kVersion) +
                    ", found " + std::to_string(header.version) +
                    "; save the index again with this release");
  }
  if (header.checksum != file::checksum(&header, offsetof(file::Header, checksum))) {
    throw_bad(path, "header checksum", "a match", "a difference");
  }
  if (header.file_size != mapping.size()) {
    throw_bad(path, "size", std::to_string(header.file_size) + " bytes",
              std::to_string(mapping.size()));
  }
  if (header.n_sections > file::kMaxSections || header.metric > 2 || header.id_kind > 2) {
    throw_bad(path, "header", "known metric, id kind and sections", "other values");
  }
  const std::uint64_t kMaxItems = (std::uint64_t{1} << 31) - 2;
  if (header.n_items > kMaxItems || header.dim == 0 || header.dim > (std::uint64_t{1} << 31)) {
    throw_bad(path, "shape", "at most 2^31 - 2 rows and at least 1 column",
              "(" + std::to_string(header.n_items) + ", " + std::to_string(header.dim) + ")");
  }
  return header;
}

void check_zeros(const std::string& path, const Mapping& mapping, std::size_t begin,
                 std::size_t end) {
  for (std::size_t at = begin; at < end; ++at) {
    if (mapping.bytes()[at] != 0) throw_bad(path, "padding", "zeros", "other bytes");
  }
}

struct Span {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
};

constexpr std::size_t kAnySize = std::numeric_limits<std::size_t>::max();

// The verified bytes of one section. item_size * n_items cannot overflow: both are < 2^33.
Span section(const std::string& path, const Mapping& mapping, const file::Header& header,
             std::uint32_t tag, std::size_t expected_size) {
  const std::string name = "section " + std::to_string(tag);
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    const file::Section& entry = header.sections[i];
    if (entry.tag != tag) continue;
    if (entry.offset % file::kAlignment != 0 || entry.offset > mapping.size() ||
        entry.size > mapping.size() - entry.offset) {
      throw_bad(path, name, "a place inside the file", "offset " + std::to_string(entry.offset));
    }
    if (expected_size != kAnySize && entry.size != expected_size) {
      throw_bad(path, name, std::to_string(expected_size) + " bytes", std::to_string(entry.size));
    }
    const unsigned char* data = mapping.bytes() + entry.offset;
    const std::size_t size = static_cast<std::size_t>(entry.size);
    if (file::checksum(data, size) != entry.checksum) {
      throw_bad(path, name + " checksum", "a match", "a difference");
    }
    return {data, size};
  }
  throw_bad(path, name, "to be present", "nothing");
}

// Structure only (lead bytes and continuations, no surrogates): enough to be decodable.
bool is_utf8(const unsigned char* bytes, std::size_t size) {
  for (std::size_t i = 0; i < size;) {
    const unsigned lead = bytes[i];
    const std::size_t n = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n == 0 || lead > 0xF4 || n > size - i) return false;
    for (std::size_t k = 1; k < n; ++k) {
      if ((bytes[i + k] & 0xC0U) != 0x80U) return false;
    }
    const unsigned second = n > 1 ? bytes[i + 1] : 0;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
      return false;
    }
    i += n;
  }
  return true;
}

ItemIds load_ids(const std::string& path, const Mapping& mapping, const file::Header& header) {
  const std::size_t n_items = static_cast<std::size_t>(header.n_items);
  const auto kind = static_cast<ItemIds::Kind>(header.id_kind);
  if (kind == ItemIds::Kind::row_numbers) return ItemIds::row_numbers(n_items);
  if (kind == ItemIds::Kind::int64) {
    const Span span = section(path, mapping, header, file::kIntIds, n_items * 8);
    std::vector<std::int64_t> values(n_items);
    if (n_items > 0) std::memcpy(values.data(), span.data, span.size);
    return ItemIds::from_int64(std::move(values));
  }
  const Span bytes = section(path, mapping, header, file::kIdBytes, kAnySize);
  if (!is_utf8(bytes.data, bytes.size)) throw_bad(path, "item ids", "UTF-8 text", "other bytes");
  const Span span = section(path, mapping, header, file::kIdOffsets, (n_items + 1) * 8);
  std::vector<std::int64_t> offsets(n_items + 1);
  std::memcpy(offsets.data(), span.data, span.size);
  ItemIds ids = ItemIds::from_strings(
      std::string(reinterpret_cast<const char*>(bytes.data), bytes.size), std::move(offsets));
  for (std::size_t row = 0; row < n_items; ++row) {
    const std::string_view id = ids.string_at(row);  // a character must not be cut in two
    if (!id.empty() && (static_cast<unsigned char>(id.front()) & 0xC0U) == 0x80U) {
      throw_bad(path, "item ids", "whole characters", "a cut inside one");
    }
  }
  return ids;
}

bool has_section(const file::Header& header, std::uint32_t tag) {
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    if (header.sections[i].tag == tag) return true;
  }
  return false;
}

// Every position must name another row: a wrong entry would be read outside the rows.
bool is_permutation(const std::uint32_t* order, std::size_t n_items) {
  std::vector<bool> is_seen(n_items);
  for (std::size_t i = 0; i < n_items; ++i) {
    if (order[i] >= n_items || is_seen[order[i]]) return false;
    is_seen[order[i]] = true;
  }
  return true;
}

// What pack_items() can have written: float32 rows bound every number, so that no threshold
// computed from them overflows float64 or becomes NaN.
bool are_usable(const double* stats, std::size_t n_blocks) {
  for (std::size_t i = 0; i < kStatsPerBlock * n_blocks; ++i) {
    const bool is_inverse_scale = i < n_blocks;
    const double least = is_inverse_scale ? 1e-38 : 0.0;
    const double most = is_inverse_scale ? 1e33 : 1e85;
    if (!(stats[i] >= least && stats[i] <= most)) return false;
  }
  return true;
}

PackedItems load_packed(const std::string& path, const Mapping& mapping, const file::Header& header,
                        const MatrixView& rows) {
  PackedItems packed;
  if (rows.n_rows == 0 || rows.dim > kMaxPackedDim) return packed;
  packed.n_items = rows.n_rows;
  packed.n_blocks = (rows.n_rows + kernels::kBlockItems - 1) / kernels::kBlockItems;
  packed.n_groups = n_groups_for(rows.dim);
  packed.codes =
      section(path, mapping, header, file::kCodes, packed.n_blocks * packed.block_bytes()).data;
  const std::size_t n_stats = kStatsPerBlock * packed.n_blocks;
  const Span stats = section(path, mapping, header, file::kStats, n_stats * sizeof(double));
  packed.stats = reinterpret_cast<const double*>(stats.data);
  if (!are_usable(packed.stats, packed.n_blocks)) {
    throw_bad(path, "block statistics", "finite numbers of the right size", "others");
  }
  if (has_section(header, file::kOrder)) {
    const Span order = section(path, mapping, header, file::kOrder, rows.n_rows * 4);
    packed.order = reinterpret_cast<const std::uint32_t*>(order.data);
    if (!is_permutation(packed.order, rows.n_rows)) {
      throw_bad(path, "order", "a permutation of the rows", "repeated or unknown rows");
    }
  }
  return packed;
}

// The bytes between sections carry nothing and must be zero: every byte of a file is verified.
void check_padding(const std::string& path, const Mapping& mapping, const file::Header& header) {
  std::size_t position = sizeof header;
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    const file::Section& entry = header.sections[i];
    const std::size_t start =
        (position + file::kAlignment - 1) / file::kAlignment * file::kAlignment;
    if (entry.offset != start || entry.size > mapping.size() - std::min(start, mapping.size())) {
      throw_bad(path, "section " + std::to_string(entry.tag),
                "offset " + std::to_string(start) + " and a place inside the file",
                "offset " + std::to_string(entry.offset));
    }
    check_zeros(path, mapping, position, start);
    position = start + static_cast<std::size_t>(entry.size);
  }
  if (mapping.size() - position >= file::kAlignment) {
    throw_bad(path, "size", "no bytes after the last section", "some");
  }
  check_zeros(path, mapping, position, mapping.size());
}

std::shared_ptr<Snapshot> load_snapshot(const std::string& path, bool use_mmap) {
  auto mapping = std::make_shared<Mapping>(path);
  const file::Header header = checked_header(path, *mapping);
  const std::size_t n_items = static_cast<std::size_t>(header.n_items);
  const std::size_t dim = static_cast<std::size_t>(header.dim);
  check_padding(path, *mapping, header);
  if (n_items > mapping->size() / (dim * sizeof(float))) {
    throw_bad(path, "shape", "rows that fit in the file", std::to_string(n_items) + " rows");
  }
  const Span rows = section(path, *mapping, header, file::kRows, n_items * dim * sizeof(float));
  const MatrixView view{reinterpret_cast<const float*>(rows.data), n_items, dim};
  if (first_bad_row(view) < n_items) throw_bad(path, "rows", "finite numbers", "a NaN or Inf");
  auto segment = std::make_shared<Segment>();
  segment->vectors = view;
  segment->packed = load_packed(path, *mapping, header, view);
  if (use_mmap) {
    segment->mapping = mapping;
  } else {
    segment->owned_vectors.assign(view.data, view.data + n_items * dim);
    segment->vectors.data = segment->owned_vectors.data();
    segment->packed = copy_packed(segment->packed);
  }
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->metric = static_cast<Metric>(header.metric);
  snapshot->n_rows = snapshot->n_items = n_items;
  snapshot->dim = dim;
  snapshot->ids = std::make_shared<ItemIds>(load_ids(path, *mapping, header));
  SegmentView base;
  base.segment = std::move(segment);
  base.n_places = n_items;
  snapshot->segments.push_back(std::move(base));
  return snapshot;
}

}  // namespace

Index Index::load(const std::string& path, bool use_mmap) {
  try {
    return Index(load_snapshot(path, use_mmap));
  } catch (const std::invalid_argument& error) {  // ids that repeat or do not ascend
    throw_bad(path, "item ids", "valid unique ids", error.what());
  }
}

}  // namespace shortlist
