// The Packer's four-bit codes beside float32 rows: one scale a block.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/rows/normalize.hpp"
#include "src/segments/packer.hpp"

namespace shortlist {
namespace {

using kernels::kBlockItems;
using kernels::kGroupBytes;
using kernels::kGroupDims;

// Parts of the largest number of a block that the outermost codes reach, until a smaller one makes
// the error larger. Without outliers it is the first or the second.
constexpr float kParts[] = {1.0F, 0.85F, 0.7F, 0.55F, 0.4F, 0.3F, 0.2F};
// Below this the reciprocal of the step would overflow.
constexpr float kLeastLargest = 1e-30F;

struct RowError {
  double residual_square = 0;  // of the row, in steps
  double code_square = 0;
};

double total(const float (&sums)[kGroupDims]) {
  return static_cast<double>(sums[0]) + static_cast<double>(sums[1]) +
         static_cast<double>(sums[2]) + static_cast<double>(sums[3]);
}

// codes[d] = 0 .. 15, which stand for (code - 7.5) steps.
RowError to_short(const float* row, std::size_t dim, float inverse_step, std::uint8_t* codes) {
  constexpr float kRound = 12582912.0F;  // adding and subtracting it rounds to the nearest integer
  float residual[kGroupDims] = {};
  float square[kGroupDims] = {};
  for (std::size_t d = 0; d < dim; ++d) {
    const float steps = row[d] * inverse_step;
    const float below = ((steps - 0.5F) + kRound) - kRound;
    const float middle = std::min(std::max(below, -8.0F), 7.0F) + 0.5F;
    const float error = steps - middle;
    residual[d % kGroupDims] += error * error;
    square[d % kGroupDims] += middle * middle;
    codes[d] = static_cast<std::uint8_t>(static_cast<int>(middle + 7.5F));
  }
  return {total(residual), total(square)};
}

}  // namespace

// The allowances for rounding are those of pack_block.
void Packer::pack_short_block(std::size_t block) {
  const std::size_t first = block * kBlockItems;
  const std::size_t n = std::min(kBlockItems, packed_.n_items - first);
  const float* rows[kBlockItems];
  float largest = kLeastLargest;
  double norms[kBlockItems], norm = 0, half_square = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t next = first + kBlockItems + i;
    if (next < packed_.n_items) segment_->vectors.prefetch(packed_.slot_at(next));
    rows[i] = segment_->vectors.float_row(packed_.slot_at(first + i));
    largest = std::max(largest, largest_magnitude(rows[i], dim_));
    const double square = squared_norm(rows[i], dim_);
    norms[i] = std::sqrt(square);
    norm = std::max(norm, norms[i] * (1 + 1e-9));
    half_square = i == 0 ? square / 2 : std::min(half_square, square / 2);
  }
  one_row_.resize(2 * row_bytes());
  double residual = std::numeric_limits<double>::infinity(), code_norm = 0, inverse = 1;
  for (const float part : kParts) {
    const float inverse_step = 8.0F / (part * largest);
    const double step = 1.0 / static_cast<double>(inverse_step);
    double most = 0, codes = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const RowError error = to_short(rows[i], dim_, inverse_step, one_row_.data());
      most = std::max(most, step * std::sqrt(error.residual_square) * (1 + 1e-3) + 2e-6 * norms[i]);
      codes = std::max(codes, step * std::sqrt(error.code_square) * (1 + 1e-3));
    }
    if (!(most < residual)) break;
    residual = most, code_norm = codes, inverse = static_cast<double>(inverse_step);
  }
  scatter_short(block, rows, n, static_cast<float>(inverse));
  write_stats(block, {inverse, inverse, residual, code_norm, norm, half_square});
}

void Packer::scatter_short(std::size_t block, const float* const* rows, std::size_t n,
                           float inverse_step) {
  std::uint8_t* out = memory_->nibbles.as<std::uint8_t>() + block * packed_.nibble_block_bytes();
  if (n < kBlockItems) std::memset(out, 0x87, packed_.nibble_block_bytes());  // about zero
  one_row_.assign(2 * row_bytes(), 0);
  for (std::size_t i = 0; i < n; ++i) {
    to_short(rows[i], dim_, inverse_step, one_row_.data());
    for (std::size_t pair = 0; pair < packed_.n_groups / 2; ++pair) {
      const std::uint8_t* codes = one_row_.data() + pair * 2 * kGroupDims;
      std::uint8_t* to = out + pair * kGroupBytes + i * kGroupDims;
      for (std::size_t d = 0; d < kGroupDims; ++d) {
        to[d] = static_cast<std::uint8_t>(codes[d] | codes[kGroupDims + d] << 4);
      }
    }
  }
}

}  // namespace shortlist
