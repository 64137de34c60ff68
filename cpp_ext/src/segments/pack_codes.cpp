// The Packer's storages without rows: rows of codes that become the blocks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/segments/packer.hpp"

namespace shortlist {

using kernels::kBlockItems;
using kernels::kGroupBytes;
using kernels::kGroupDims;

void Packer::add_codes(const float* row) {
  const std::size_t slot = n_added_ - 1;
  std::uint8_t* codes = all_codes() + slot * row_bytes();
  CodeRow rounded;
  if (storage_ == Storage::int8) {
    rounded = to_codes(storage_, row, dim_, metric_, codes);
    std::fill(codes + dim_, codes + row_bytes(), static_cast<std::uint8_t>(kernels::kCodeOffset));
  } else {
    one_row_.assign(2 * row_bytes(), 0);
    rounded = to_codes(storage_, row, dim_, metric_, one_row_.data());
    for (std::size_t i = 0; i < row_bytes(); ++i) {  // groups 2p and 2p + 1 share four bytes
      const std::uint8_t* pair = one_row_.data() + i / kGroupDims * 2 * kGroupDims + i % kGroupDims;
      codes[i] = static_cast<std::uint8_t>(pair[0] | pair[kGroupDims] << 4);
    }
  }
  memory_->scales[slot] = rounded.scale;
  const float size = metric_ == Metric::cosine
                         ? rounded.scale
                         : rounded.scale * static_cast<float>(std::sqrt(rounded.code_square));
  constexpr float kMost = std::numeric_limits<float>::max();
  keys_[slot] = key_of(std::min(size, kMost), slot);
}

// Follows the cycles of the permutation, so that no second copy of the codes is needed.
void Packer::move_codes() {
  std::uint8_t* codes = all_codes();
  const std::size_t n_bytes = row_bytes();
  std::vector<std::uint8_t> moved(n_bytes);
  std::vector<bool> is_done(packed_.n_items);
  for (std::size_t start = 0; start < packed_.n_items; ++start) {
    if (is_done[start]) continue;
    std::memcpy(moved.data(), codes + start * n_bytes, n_bytes);
    std::size_t position = start;
    for (;;) {
      is_done[position] = true;
      const std::size_t from = packed_.order[position];
      if (from == start) break;
      std::memcpy(codes + position * n_bytes, codes + from * n_bytes, n_bytes);
      position = from;
    }
    std::memcpy(codes + position * n_bytes, moved.data(), n_bytes);
  }
  packed_.scales = memory_->scales.data();
  for (std::size_t block = 0; block < packed_.n_blocks; ++block) pack_code_block(block);
}

// Sum of the squares of a row's codes.
std::int32_t Packer::code_square(const std::uint8_t* row) const {
  std::int32_t square = 0;
  for (std::size_t d = 0; d < dim_; ++d) {
    std::int32_t code;
    if (storage_ == Storage::int8) {
      code = row[d] - kernels::kCodeOffset;
    } else {
      const std::size_t group = d / kGroupDims;
      const std::uint8_t both = row[group / 2 * kGroupDims + d % kGroupDims];
      code = 2 * (group % 2 == 0 ? both & 15 : both >> 4) - 15;
    }
    square += code * code;
  }
  return square;
}

void Packer::pack_code_block(std::size_t block) {
  const std::size_t n_units = row_bytes() / kGroupDims;
  const std::size_t first = block * kBlockItems;
  const std::size_t n = std::min(kBlockItems, packed_.n_items - first);
  std::uint8_t* codes = all_codes() + block * n_units * kGroupBytes;
  const std::vector<std::uint8_t> rows(codes, codes + n * row_bytes());
  // Places without an item: about zero.
  if (n < kBlockItems) {
    std::memset(codes, storage_ == Storage::int8 ? kernels::kCodeOffset : 0x87,
                n_units * kGroupBytes);
  }
  float most = 0, least = 0;
  double norm = 0, half_square = 0;
  bool has_zero_row = false;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint8_t* row = rows.data() + i * row_bytes();
    for (std::size_t unit = 0; unit < n_units; ++unit) {
      std::memcpy(codes + unit * kGroupBytes + i * kGroupDims, row + unit * kGroupDims, kGroupDims);
    }
    const float scale = packed_.scales[packed_.slot_at(first + i)];
    if (scale > 0) {
      most = std::max(most, scale);
      least = least == 0 ? scale : std::min(least, scale);
    } else {
      has_zero_row = true;
    }
    const double row_norm = static_cast<double>(scale) * std::sqrt(code_square(row));
    norm = std::max(norm, row_norm * (1 + 1e-9));
    const double half = row_norm * row_norm / 2;
    half_square = i == 0 ? half : std::min(half_square, half);
  }
  if (most == 0) most = least = 1;
  // The codes are the rows: only the float64 rounding of the exact score remains. Short codes of a
  // zero row are not 0 but 1, which is its error.
  const bool is_short = has_short_codes(storage_);
  double error = 2e-6 * norm;
  if (is_short && has_zero_row) {
    error += static_cast<double>(most) * std::sqrt(static_cast<double>(dim_)) * (1 + 1e-9);
  }
  const double step = is_short ? 2 : 1;  // of a code, in scales
  write_stats(block,
              {1.0 / (step * static_cast<double>(most)), 1.0 / (step * static_cast<double>(least)),
               error, std::max(norm, error), norm, half_square});
}

}  // namespace shortlist
