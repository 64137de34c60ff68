// The Packer's codes of four or six bits beside float32 rows: one scale a block.
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

// In steps of the finest codes.
struct RowError {
  double residual_square = 0;  // of the row
  double code_square = 0;
  double high_residual_square = 0;  // the same of the high four bits alone
  double high_code_square = 0;
};

// The largest of a block, with the allowances for rounding of pack_block.
struct BlockError {
  double residual = 0, code_norm = 0, high_residual = 0, high_code_norm = 0;

  void take(const RowError& row, double step, double norm) {
    const auto length = [step](double square) { return step * std::sqrt(square) * (1 + 1e-3); };
    const double slack = 2e-6 * norm;
    residual = std::max(residual, length(row.residual_square) + slack);
    code_norm = std::max(code_norm, length(row.code_square));
    high_residual = std::max(high_residual, length(row.high_residual_square) + slack);
    high_code_norm = std::max(high_code_norm, length(row.high_code_square));
  }
};

double total(const float (&sums)[kGroupDims]) {
  return static_cast<double>(sums[0]) + static_cast<double>(sums[1]) +
         static_cast<double>(sums[2]) + static_cast<double>(sums[3]);
}

// codes[d] = 0 .. 2 half - 1, which stand for (code - half + 0.5) steps; half is 8, or 32 with two
// bits below the high four.
RowError to_short(const float* row, std::size_t dim, float half, float inverse_step,
                  std::uint8_t* codes) {
  constexpr float kRound = 12582912.0F;  // adding and subtracting it rounds to the nearest integer
  float residual[kGroupDims] = {}, square[kGroupDims] = {};
  float high_residual[kGroupDims] = {}, high_square[kGroupDims] = {};
  const int high_step = half > 8 ? 4 : 1;
  const float high_middle = static_cast<float>(high_step) / 2;
  for (std::size_t d = 0; d < dim; ++d) {
    const float steps = row[d] * inverse_step;
    const float below = ((steps - 0.5F) + kRound) - kRound;
    const float low = std::min(std::max(below, -half), half - 1);
    const float error = steps - (low + 0.5F);
    const int code = static_cast<int>(low + half);
    const float high = static_cast<float>(code / high_step * high_step) - half + high_middle;
    residual[d % kGroupDims] += error * error;
    square[d % kGroupDims] += (low + 0.5F) * (low + 0.5F);
    high_residual[d % kGroupDims] += (steps - high) * (steps - high);
    high_square[d % kGroupDims] += high * high;
    codes[d] = static_cast<std::uint8_t>(code);
  }
  return {total(residual), total(square), total(high_residual), total(high_square)};
}

}  // namespace

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
  const float half = storage_ == Storage::disk6 ? 32 : 8;
  one_row_.resize(2 * row_bytes());
  BlockError best;
  double least = std::numeric_limits<double>::infinity();
  float inverse = 1;
  for (const float part : kParts) {
    const float inverse_step = half / (part * largest);
    const double step = 1.0 / static_cast<double>(inverse_step);
    BlockError error;
    for (std::size_t i = 0; i < n; ++i) {
      error.take(to_short(rows[i], dim_, half, inverse_step, one_row_.data()), step, norms[i]);
    }
    // What six bits leave is read from the disk, so cutting numbers off must not cost there.
    const double sum = error.high_residual + 4 * error.residual;
    if (!(sum < least)) break;
    best = error, least = sum, inverse = inverse_step;
  }
  scatter_short(block, rows, n, inverse);
  const double scale = static_cast<double>(inverse);
  write_stats(block, {scale, scale, best.residual, best.code_norm, norm, half_square});
  if (storage_ == Storage::disk6) {
    write_nibble_stats(block, scale / 4, best.high_residual, best.high_code_norm);
  }
}

void Packer::scatter_short(std::size_t block, const float* const* rows, std::size_t n,
                           float inverse_step) {
  std::uint8_t* nibbles =
      memory_->nibbles.as<std::uint8_t>() + block * packed_.nibble_block_bytes();
  const bool has_quarters = storage_ == Storage::disk6;
  std::uint8_t* quarters = nullptr;
  if (has_quarters) {
    quarters = memory_->quarters.as<std::uint8_t>() + block * packed_.quarter_block_bytes();
    std::memset(quarters, 0, packed_.quarter_block_bytes());
  }
  if (n < kBlockItems) std::memset(nibbles, 0x87, packed_.nibble_block_bytes());  // about zero
  const unsigned n_low = has_quarters ? 2 : 0;
  one_row_.assign(2 * row_bytes(), 0);
  for (std::size_t i = 0; i < n; ++i) {
    to_short(rows[i], dim_, has_quarters ? 32 : 8, inverse_step, one_row_.data());
    for (std::size_t group = 0; group < packed_.n_groups; ++group) {
      const std::uint8_t* codes = one_row_.data() + group * kGroupDims;
      std::uint8_t* to = nibbles + group / 2 * kGroupBytes + i * kGroupDims;
      for (std::size_t d = 0; d < kGroupDims; ++d) {
        const unsigned high = static_cast<unsigned>(codes[d]) >> n_low;
        to[d] = static_cast<std::uint8_t>(group % 2 == 0 ? high : to[d] | high << 4);
      }
      if (!has_quarters) continue;
      std::uint8_t* low = quarters + group / 4 * kGroupBytes + i * kGroupDims;
      for (std::size_t d = 0; d < kGroupDims; ++d) {
        low[d] = static_cast<std::uint8_t>(low[d] | (codes[d] & 3U) << group % 4 * 2);
      }
    }
  }
}

}  // namespace shortlist
