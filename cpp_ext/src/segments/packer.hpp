// Turns rows into a packed segment (internal), one pass where the metric allows it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "shortlist/metric.hpp"
#include "src/rows/packed.hpp"
#include "src/segments/segment.hpp"
#include "src/system/buffer.hpp"

namespace shortlist {

// Sorts descending by `size` >= 0, then by the lower row.
inline std::uint64_t key_of(float size, std::size_t row) {
  std::uint32_t bits;
  std::memcpy(&bits, &size, sizeof bits);
  return static_cast<std::uint64_t>(~bits) << 32 | row;
}

// Memory: the stored rows, the codes and their nibbles, and 8 to 16 bytes a row while it packs.
//
// For cosine a block is packed as soon as its 64 rows are there. For dot and euclidean the items
// are ordered by norm first, largest first, so that items of a block share a scale and whole blocks
// can be pruned. int8 rows have scales of their own; they are ordered by norm and scale,
// for cosine by scale alone, and moved in place.
class Packer {
 public:
  Packer(std::size_t n_rows, std::size_t dim, Metric metric, Storage storage);

  // The next row; for cosine normalised. False if a number is beyond the range of the storage.
  // @pre finite
  bool add(const float* row);
  // @pre n_rows were added
  std::shared_ptr<Segment> finish();

 private:
  bool is_packed() const { return packed_.n_blocks > 0; }
  bool is_ordered() const { return metric_ != Metric::cosine || storage_ == Storage::int8; }
  void add_bytes(const float* row);
  void set_order();
  void order_by_scale();
  // Rows of 8-bit codes become blocks in the order of the items.
  void move_bytes();
  void pack_block(std::size_t block);
  void pack_nibble_block(std::size_t block, const float* const* rows, std::size_t n, float scale,
                         float inverse_scale);
  void pack_byte_block(std::size_t block);
  void write_stats(std::size_t block, const double (&stats)[kStatsPerBlock]);

  Metric metric_;
  Storage storage_;
  std::size_t dim_;
  std::size_t n_added_ = 0;
  std::shared_ptr<Segment> segment_;
  std::shared_ptr<PackedMemory> memory_;
  PackedItems packed_;               // its arrays lie in memory_
  std::vector<std::uint64_t> keys_;  // sorts into the order: what to order by, then the row
  std::vector<float> scratch_;       // a block of rows as float32, where they are stored otherwise
};

}  // namespace shortlist
