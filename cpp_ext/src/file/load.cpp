// Index::load: nothing in the file is believed before it is checked, and no allocation is larger
// than the file itself.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "shortlist/index.hpp"
#include "src/file/file_reader.hpp"
#include "src/file/index_file.hpp"
#include "src/rows/check_rows.hpp"
#include "src/segments/snapshot.hpp"
#include "src/system/utf8.hpp"

namespace shortlist {
namespace {

ItemIds load_ids(const FileReader& file) {
  const std::size_t n_items = file.n_items();
  const auto kind = static_cast<ItemIds::Kind>(file.header().id_kind);
  if (kind == ItemIds::Kind::row_numbers) return ItemIds::row_numbers(n_items);
  if (kind == ItemIds::Kind::int64) {
    const SectionBytes span = file.section(file::kIntIds, n_items * 8);
    std::vector<std::int64_t> values(n_items);
    if (n_items > 0) std::memcpy(values.data(), span.data, span.size);
    return ItemIds::from_int64(std::move(values));
  }
  const SectionBytes bytes = file.section(file::kIdBytes, FileReader::kAnySize);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data), bytes.size);
  if (!is_utf8(text)) file.throw_bad("item ids", "UTF-8 text", "other bytes");
  const SectionBytes span = file.section(file::kIdOffsets, (n_items + 1) * 8);
  std::vector<std::int64_t> offsets(n_items + 1);
  std::memcpy(offsets.data(), span.data, span.size);
  ItemIds ids = ItemIds::from_strings(std::string(text), std::move(offsets));
  for (std::size_t row = 0; row < n_items; ++row) {
    const std::string_view id = ids.string_at(row);  // a character must not be cut in two
    if (!id.empty() && (static_cast<unsigned char>(id.front()) & 0xC0U) == 0x80U) {
      file.throw_bad("item ids", "whole characters", "a cut inside one");
    }
  }
  return ids;
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

// What a Packer can have written: float32 rows bound every number, so that no threshold
// computed from them overflows float64 or becomes NaN.
bool are_usable(const double* stats, std::size_t n_inverse_scales, std::size_t n_stats) {
  for (std::size_t i = 0; i < n_stats; ++i) {
    const bool is_inverse_scale = i < n_inverse_scales;
    const double least = is_inverse_scale ? 1e-40 : 0.0;
    const double most = is_inverse_scale ? 1e33 : 1e85;
    if (!(stats[i] >= least && stats[i] <= most)) return false;
  }
  return true;
}

// Scales of a Packer: the product with any code is a finite float32, and exact.
bool are_scales(const float* scales, std::size_t n_items, float most) {
  for (std::size_t i = 0; i < n_items; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, scales + i, sizeof bits);
    const bool is_in_range = scales[i] == 0 || (scales[i] >= 1e-33F && scales[i] <= most);
    if (!is_in_range || (bits & 0xFFU) != 0) return false;
  }
  return true;
}

PackedItems load_packed(const FileReader& file) {
  PackedItems packed;
  if (file.n_items() == 0 || file.dim() > kMaxPackedDim) return packed;
  packed.n_items = file.n_items();
  packed.n_blocks = (packed.n_items + kernels::kBlockItems - 1) / kernels::kBlockItems;
  packed.n_groups = n_groups_for(file.dim());
  const auto storage = static_cast<Storage>(file.header().storage);
  if (!has_short_codes(storage)) {
    packed.codes = file.section(file::kCodes, packed.n_blocks * packed.block_bytes()).data;
  }
  const std::size_t n_stats = kStatsPerBlock * packed.n_blocks;
  const SectionBytes stats = file.section(file::kStats, n_stats * sizeof(double));
  packed.stats = reinterpret_cast<const double*>(stats.data);
  if (!are_usable(packed.stats, 2 * packed.n_blocks, n_stats)) {
    file.throw_bad("block statistics", "finite numbers of the right size", "others");
  }
  if (has_short_codes(storage) || file.has_section(file::kNibbles)) {
    packed.nibbles =
        file.section(file::kNibbles, packed.n_blocks * packed.nibble_block_bytes()).data;
  }
  if (storage == Storage::disk6) {
    packed.quarters =
        file.section(file::kQuarters, packed.n_blocks * packed.quarter_block_bytes()).data;
  }
  if (packed.nibbles != nullptr && (packed.codes != nullptr || packed.quarters != nullptr)) {
    const std::size_t n_nibble_stats = kNibbleStatsPerBlock * packed.n_blocks;
    const SectionBytes nibble_stats =
        file.section(file::kNibbleStats, n_nibble_stats * sizeof(double));
    packed.nibble_stats = reinterpret_cast<const double*>(nibble_stats.data);
    if (!are_usable(packed.nibble_stats, packed.n_blocks, n_nibble_stats)) {
      file.throw_bad("nibble statistics", "finite numbers of the right size", "others");
    }
  }
  if (file.has_section(file::kOrder)) {
    const SectionBytes order = file.section(file::kOrder, packed.n_items * sizeof(std::uint32_t));
    packed.order = reinterpret_cast<const std::uint32_t*>(order.data);
    if (!is_permutation(packed.order, packed.n_items)) {
      file.throw_bad("order", "a permutation of the rows", "repeated or unknown rows");
    }
  }
  if (is_approximate(storage)) {
    const SectionBytes scales = file.section(file::kScales, packed.n_items * sizeof(float));
    packed.scales = reinterpret_cast<const float*>(scales.data);
    if (!are_scales(packed.scales, packed.n_items, most_scale(storage))) {
      file.throw_bad("scales", "finite numbers of 16 significant bits", "others");
    }
  }
  return packed;
}

bool are_finite(const std::uint16_t* numbers, std::size_t n, std::uint16_t exponent) {
  std::uint32_t is_bad = 0;
  for (std::size_t i = 0; i < n; ++i) {
    is_bad |= static_cast<std::uint32_t>((numbers[i] & exponent) == exponent);
  }
  return is_bad == 0;
}

StoredRows load_rows(const FileReader& file, Storage storage) {
  const std::size_t n_items = file.n_items(), dim = file.dim();
  StoredRows rows = {row_storage(storage), n_items, dim};
  const std::size_t n_bytes = bytes_per_number(storage);
  if (is_approximate(storage)) return rows;
  if (n_items > file.size() / (dim * n_bytes)) {
    file.throw_bad("shape", "rows that fit in the file", std::to_string(n_items) + " rows");
  }
  rows.data = file.section(file::kRows, n_items * dim * n_bytes).data;
  const auto* numbers = static_cast<const std::uint16_t*>(rows.data);
  const bool is_finite =
      rows.storage == Storage::float32
          ? first_bad_row({static_cast<const float*>(rows.data), n_items, dim}) == n_items
          : are_finite(numbers, n_items * dim, storage == Storage::float16 ? 0x7C00 : 0x7F80);
  if (!is_finite) file.throw_bad("rows", "finite numbers", "a NaN or Inf");
  return rows;
}

// Codes to memory; rows stay in the file, and nothing of it stays mapped.
void keep_codes(const FileReader& file, Segment& segment) {
  segment.packed = copy_packed(segment.packed);
  segment.row_file = file.rows_at(segment.vectors.data);
  segment.vectors.file = segment.row_file.get();
  segment.vectors.data = nullptr;
}

std::shared_ptr<Segment> load_segment(const FileReader& file, Storage storage, bool use_mmap) {
  auto segment = std::make_shared<Segment>();
  segment->vectors = load_rows(file, storage);
  segment->packed = load_packed(file);
  if (use_mmap && has_rows_on_disk(storage) && file.is_mapped()) {
    keep_codes(file, *segment);
  } else if (use_mmap) {
    segment->mapping = file.mapping();
    segment->has_mapped_rows = segment->has_mapped_codes = file.is_mapped();
  } else {
    const StoredRows& mapped = segment->vectors;
    const std::size_t n_bytes = mapped.n_rows * mapped.dim * bytes_per_number(storage);
    segment->owned_vectors = Buffer(n_bytes);
    if (n_bytes > 0) std::memcpy(segment->owned_vectors.as<void>(), mapped.data, n_bytes);
    segment->vectors.data = segment->owned_vectors.as<void>();
    segment->packed = copy_packed(segment->packed);
  }
  if (is_approximate(storage)) segment->read_codes();
  return segment;
}

std::shared_ptr<const Snapshot> load_snapshot(const FileReader& file, bool use_mmap) {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->metric = static_cast<Metric>(file.header().metric);
  snapshot->storage = static_cast<Storage>(file.header().storage);
  snapshot->recall = file.header().recall;
  snapshot->n_rows = snapshot->n_items = file.n_items();
  snapshot->dim = file.dim();
  SegmentView base;
  base.segment = load_segment(file, snapshot->storage, use_mmap);
  base.n_slots = file.n_items();
  snapshot->segments.push_back(std::move(base));
  try {
    snapshot->ids = std::make_shared<ItemIds>(load_ids(file));
  } catch (const std::invalid_argument& error) {  // ids that repeat or do not ascend
    file.throw_bad("item ids", "valid unique ids", error.what());
  }
  return snapshot;
}

}  // namespace

Index Index::load(const std::string& path, bool use_mmap, const std::string& name) {
  return Index(load_snapshot(FileReader(path, name.empty() ? path : name), use_mmap));
}

Index Index::borrow(const std::string& name, const void* bytes, std::size_t size) {
  return Index(load_snapshot(FileReader(name, bytes, size), true));
}

Index Index::from_bytes(const std::string& name, const void* bytes, std::size_t size) {
  return Index(load_snapshot(FileReader(name, bytes, size), false));
}

}  // namespace shortlist
