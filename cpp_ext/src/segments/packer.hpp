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
// can be pruned. Rows that are codes have scales of their own; they are ordered by norm and scale,
// for cosine by scale alone, and moved in place. So are, but for the moving, items whose only codes
// have four bits: there a scale that suits every item of its block proves much more.
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
  bool is_ordered() const {
    return metric_ != Metric::cosine || is_approximate(storage_) || has_short_codes(storage_);
  }
  // Of an item in `codes` or `nibbles`.
  std::size_t row_bytes() const {
    return packed_.n_groups * kernels::kGroupDims / (has_short_codes(storage_) ? 2 : 1);
  }
  std::uint8_t* all_codes() const {
    return (has_short_codes(storage_) ? memory_->nibbles : memory_->codes).as<std::uint8_t>();
  }
  void add_codes(const float* row);
  void set_order();
  void order_by_scale(const std::vector<float>& scales);
  // Rows of codes become blocks in the order of the items.
  void move_codes();
  void pack_block(std::size_t block);
  void pack_nibble_block(std::size_t block, const float* const* rows, std::size_t n, float scale,
                         float inverse_scale);
  void pack_code_block(std::size_t block);
  void pack_short_block(std::size_t block);
  void scatter_short(std::size_t block, const float* const* rows, std::size_t n,
                     float inverse_step);
  void write_nibble_stats(std::size_t block, double inverse_scale, double residual,
                          double code_norm);
  std::int32_t code_square(const std::uint8_t* row) const;
  void write_stats(std::size_t block, const double (&stats)[kStatsPerBlock]);

  Metric metric_;
  Storage storage_;
  std::size_t dim_;
  std::size_t n_added_ = 0;
  std::shared_ptr<Segment> segment_;
  std::shared_ptr<PackedMemory> memory_;
  PackedItems packed_;                 // its arrays lie in memory_
  std::vector<std::uint64_t> keys_;    // sorts into the order: what to order by, then the row
  std::vector<float> scales_;          // by slot: to order by where rows are no codes
  std::vector<std::uint8_t> one_row_;  // its short codes, one a byte
  std::vector<float> scratch_;  // a block of rows as float32, where they are stored otherwise
};

}  // namespace shortlist
