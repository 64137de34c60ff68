// The Packer's int8 storage: rows of 8-bit codes that become the blocks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/segments/packer.hpp"

namespace shortlist {

using kernels::kBlockItems;
using kernels::kGroupBytes;
using kernels::kGroupDims;

void Packer::add_bytes(const float* row) {
  const std::size_t slot = n_added_ - 1;
  const std::size_t row_bytes = packed_.n_groups * kGroupDims;
  std::uint8_t* codes = memory_->codes.as<std::uint8_t>() + slot * row_bytes;
  const ByteRow rounded = to_bytes(row, dim_, metric_, codes);
  std::fill(codes + dim_, codes + row_bytes, static_cast<std::uint8_t>(kernels::kCodeOffset));
  memory_->scales[slot] = rounded.scale;
  const float size = metric_ == Metric::cosine
                         ? rounded.scale
                         : rounded.scale * static_cast<float>(std::sqrt(rounded.code_square));
  keys_[slot] = key_of(size, slot);
}

// Follows the cycles of the permutation, so that no second copy of the codes is needed.
void Packer::move_bytes() {
  std::uint8_t* codes = memory_->codes.as<std::uint8_t>();
  const std::size_t row_bytes = packed_.n_groups * kGroupDims;
  std::vector<std::uint8_t> moved(row_bytes);
  std::vector<bool> is_done(packed_.n_items);
  for (std::size_t start = 0; start < packed_.n_items; ++start) {
    if (is_done[start]) continue;
    std::memcpy(moved.data(), codes + start * row_bytes, row_bytes);
    std::size_t position = start;
    for (;;) {
      is_done[position] = true;
      const std::size_t from = packed_.order[position];
      if (from == start) break;
      std::memcpy(codes + position * row_bytes, codes + from * row_bytes, row_bytes);
      position = from;
    }
    std::memcpy(codes + position * row_bytes, moved.data(), row_bytes);
  }
  packed_.scales = memory_->scales.data();
  for (std::size_t block = 0; block < packed_.n_blocks; ++block) pack_byte_block(block);
}

void Packer::pack_byte_block(std::size_t block) {
  const std::size_t row_bytes = packed_.n_groups * kGroupDims;
  const std::size_t first = block * kBlockItems;
  const std::size_t n = std::min(kBlockItems, packed_.n_items - first);
  std::uint8_t* codes = memory_->codes.as<std::uint8_t>() + block * packed_.block_bytes();
  const std::vector<std::uint8_t> rows(codes, codes + n * row_bytes);
  if (n < kBlockItems) std::memset(codes, kernels::kCodeOffset, packed_.block_bytes());
  float most = 0, least = 0;
  double norm = 0, half_square = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t* row = rows.data() + i * row_bytes;
    std::int32_t code_square = 0;
    for (std::size_t d = 0; d < row_bytes; ++d) {
      const std::int32_t code = row[d] - kernels::kCodeOffset;
      code_square += code * code;
    }
    for (std::size_t g = 0; g < packed_.n_groups; ++g) {
      std::memcpy(codes + g * kGroupBytes + i * kGroupDims, row + g * kGroupDims, kGroupDims);
    }
    const float scale = packed_.scales[packed_.slot_at(first + i)];
    if (scale > 0) {  // a zero row is 0 in any scale
      most = std::max(most, scale);
      least = least == 0 ? scale : std::min(least, scale);
    }
    const double row_norm = static_cast<double>(scale) * std::sqrt(code_square);
    norm = std::max(norm, row_norm * (1 + 1e-9));
    const double half = row_norm * row_norm / 2;
    half_square = i == 0 ? half : std::min(half_square, half);
  }
  if (most == 0) most = least = 1;
  // The codes are the rows: only the float64 rounding of the exact score remains.
  write_stats(block, {1.0 / static_cast<double>(most), 1.0 / static_cast<double>(least),
                      2e-6 * norm, norm, norm, half_square});
}

}  // namespace shortlist
