#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "shortlist/nibbles.hpp"
#include "src/rows/normalize.hpp"
#include "src/segments/packer.hpp"

namespace shortlist {
namespace {

using kernels::kBlockItems;
using kernels::kGroupBytes;
using kernels::kGroupDims;

struct RowError {
  double residual_square;  // sum (x - s c)^2
  double code_square;      // sum (s c)^2
};

double total(const float (&sums)[kGroupDims]) {
  return static_cast<double>(sums[0]) + static_cast<double>(sums[1]) +
         static_cast<double>(sums[2]) + static_cast<double>(sums[3]);
}

// Rounds one row to codes [-127, 127] and scatters it into its block as code + 128.
RowError pack_row(const float* row, std::size_t dim, float scale, float inverse_scale,
                  std::uint8_t* block, std::size_t item) {
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in plain float32 arithmetic.
  constexpr float kRound = 12582912.0F;
  float residual[kGroupDims] = {};
  float code_square[kGroupDims] = {};
  const std::size_t n_groups = (dim + kGroupDims - 1) / kGroupDims;
  for (std::size_t g = 0; g < n_groups; ++g) {
    float x[kGroupDims] = {};
    const std::size_t n = std::min(kGroupDims, dim - g * kGroupDims);
    if (n == kGroupDims) {
      std::memcpy(x, row + g * kGroupDims, sizeof x);
    } else {
      std::copy(row + g * kGroupDims, row + g * kGroupDims + n, x);
    }
    std::uint8_t* out = block + g * kGroupBytes + item * kGroupDims;
    for (std::size_t d = 0; d < kGroupDims; ++d) {
      const float code = (x[d] * inverse_scale + kRound) - kRound;
      const float error = x[d] * inverse_scale - code;  // in units of the scale
      residual[d] += error * error;
      code_square[d] += code * code;
      out[d] = static_cast<std::uint8_t>(static_cast<int>(code) + kernels::kCodeOffset);
    }
  }
  const double unit = static_cast<double>(scale) * static_cast<double>(scale);
  return {unit * total(residual), unit * total(code_square)};
}

// Scatters the high halves of the row's codes into the nibbles of its block. The error is that of
// the middle of the sixteen codes that share a nibble.
RowError pack_nibbles(const float* row, std::size_t dim, float scale, float inverse_scale,
                      const std::uint8_t* codes, std::uint8_t* nibbles, std::size_t item) {
  constexpr float kMiddle = 7.5F - static_cast<float>(kernels::kCodeOffset);
  float residual[kGroupDims] = {};
  float middle_square[kGroupDims] = {};
  const std::size_t n_groups = n_groups_for(dim);
  for (std::size_t g = 0; g < n_groups; ++g) {
    const std::uint8_t* in = codes + g * kGroupBytes + item * kGroupDims;
    std::uint8_t* out = nibbles + g / 2 * kGroupBytes + item * kGroupDims;
    for (std::size_t d = 0; d < kGroupDims; ++d) {
      const std::uint8_t high = in[d] & 0xF0U;
      out[d] = static_cast<std::uint8_t>(g % 2 == 0 ? high >> 4 : out[d] | high);
    }
    const std::size_t n = std::min(kGroupDims, dim - std::min(dim, g * kGroupDims));
    for (std::size_t d = 0; d < n; ++d) {
      const float middle = static_cast<float>(in[d] & 0xF0U) + kMiddle;
      const float error = row[g * kGroupDims + d] * inverse_scale - middle;
      residual[d] += error * error;
      middle_square[d] += middle * middle;
    }
  }
  const double unit = static_cast<double>(scale) * static_cast<double>(scale);
  return {unit * total(residual), unit * total(middle_square)};
}

}  // namespace

Packer::Packer(std::size_t n_rows, std::size_t dim, Metric metric, Storage storage)
    : metric_(metric),
      storage_(storage),
      dim_(dim),
      segment_(std::make_shared<Segment>()),
      memory_(std::make_shared<PackedMemory>()) {
  segment_->owned_vectors = Buffer(n_rows * dim * bytes_per_number(storage));
  segment_->vectors = {row_storage(storage), n_rows, dim, segment_->owned_vectors.as<void>()};
  if (n_rows == 0 || dim > kMaxPackedDim) return;
  packed_.n_items = n_rows;
  packed_.n_blocks = (n_rows + kBlockItems - 1) / kBlockItems;
  packed_.n_groups = n_groups_for(dim);
  memory_->stats.resize(kStatsPerBlock * packed_.n_blocks);
  const std::size_t n_code_bytes = packed_.n_blocks * packed_.block_bytes();
  if (!has_short_codes(storage)) memory_->codes = Buffer(n_code_bytes);
  const bool has_nibbles = !is_approximate(storage) && !has_short_codes(storage) &&
                           n_code_bytes >= min_code_bytes_for_nibbles();
  if (has_nibbles || has_short_codes(storage)) memory_->nibbles = Buffer(n_code_bytes / 2);
  if (storage == Storage::disk6) {
    memory_->quarters = Buffer(packed_.n_blocks * packed_.quarter_block_bytes());
  }
  if (has_nibbles || storage == Storage::disk6) {
    memory_->nibble_stats.resize(kNibbleStatsPerBlock * packed_.n_blocks);
    packed_.nibbles = memory_->nibbles.as<std::uint8_t>();
    packed_.nibble_stats = memory_->nibble_stats.data();
  }
  if (is_ordered()) keys_.resize(n_rows);
  if (is_approximate(storage)) {
    memory_->scales.resize(n_rows);
  } else if (row_storage(storage) != Storage::float32) {
    scratch_.resize(kBlockItems * dim);
  }
  const bool is_short = has_short_codes(storage) && has_rows_on_disk(storage);
  if (is_short && metric != Metric::cosine) scales_.resize(n_rows);
}

bool Packer::add(const float* row) {
  const std::size_t slot = n_added_++;
  bool is_in_range = true;
  if (is_approximate(storage_)) {
    add_codes(row);
  } else if (row_storage(storage_) == Storage::float32) {
    std::copy_n(row, dim_, segment_->owned_vectors.as<float>() + slot * dim_);
  } else {
    std::uint16_t* out = segment_->owned_vectors.as<std::uint16_t>() + slot * dim_;
    is_in_range = narrow_row(storage_, row, dim_, out);
  }
  if (!is_packed()) return is_in_range;
  if (!keys_.empty() && !is_approximate(storage_)) {
    constexpr double kMost = static_cast<double>(std::numeric_limits<float>::max());
    const float* stored = segment_->vectors.read(slot, scratch_.data());
    const float largest = has_short_codes(storage_) ? largest_magnitude(stored, dim_) : 0;
    if (!scales_.empty()) scales_[slot] = largest;
    const double norm = std::min(std::sqrt(squared_norm(stored, dim_)), kMost);
    keys_[slot] = key_of(metric_ == Metric::cosine ? largest : static_cast<float>(norm), slot);
  }
  if (!is_ordered() && (n_added_ % kBlockItems == 0 || n_added_ == packed_.n_items)) {
    pack_block(slot / kBlockItems);
  }
  return is_in_range;
}

void Packer::set_order() {
  std::sort(keys_.begin(), keys_.end());
  memory_->order.resize(keys_.size());
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    memory_->order[i] = static_cast<std::uint32_t>(keys_[i] & 0xFFFFFFFFU);
  }
  keys_ = {};
  if (metric_ != Metric::cosine && is_approximate(storage_)) order_by_scale(memory_->scales);
  if (metric_ != Metric::cosine && !scales_.empty()) order_by_scale(scales_);
  scales_ = {};
  packed_.order = memory_->order.data();
}

// Within groups of alike norm: a block then has about one norm and about one scale, and the
// threshold of the block is about right for each of its items.
void Packer::order_by_scale(const std::vector<float>& scales) {
  const double n_groups = std::sqrt(static_cast<double>(packed_.n_blocks));
  const std::size_t size = static_cast<std::size_t>(n_groups) * kBlockItems;
  for (std::size_t first = 0; first < packed_.n_items; first += size) {
    const auto begin = memory_->order.begin() + static_cast<std::ptrdiff_t>(first);
    const std::size_t n = std::min(size, packed_.n_items - first);
    std::sort(begin, begin + static_cast<std::ptrdiff_t>(n),
              [&scales](std::uint32_t a, std::uint32_t b) {
                return scales[a] > scales[b] || (scales[a] == scales[b] && a < b);
              });
  }
}

std::shared_ptr<Segment> Packer::finish() {
  if (is_packed()) {
    if (is_ordered()) set_order();
    if (is_approximate(storage_)) {
      move_codes();
    } else if (is_ordered()) {
      for (std::size_t block = 0; block < packed_.n_blocks; ++block) pack_block(block);
    }
    packed_.codes = memory_->codes.as<std::uint8_t>();
    packed_.nibbles = memory_->nibbles.as<std::uint8_t>();
    packed_.quarters = memory_->quarters.as<std::uint8_t>();
    packed_.stats = memory_->stats.data();
    packed_.owner = std::move(memory_);
  }
  segment_->packed = std::move(packed_);
  if (is_approximate(storage_)) segment_->read_codes();
  return std::move(segment_);
}

void Packer::pack_block(std::size_t block) {
  if (has_short_codes(storage_)) return pack_short_block(block);
  const std::size_t first = block * kBlockItems;
  const std::size_t n = std::min(kBlockItems, packed_.n_items - first);
  const StoredRows& stored = segment_->vectors;
  const float* rows[kBlockItems];
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t next = first + kBlockItems + i;
    if (next < packed_.n_items && is_ordered()) stored.prefetch(packed_.slot_at(next));
    rows[i] = stored.read(packed_.slot_at(first + i), scratch_.data() + i * dim_);
    largest = std::max(largest, largest_magnitude(rows[i], dim_));
  }
  // Below this the float32 reciprocal would overflow: all codes 0, the residual is the row itself.
  const bool is_tiny = largest < 1e-30F;
  const float scale = is_tiny ? 1.0F : largest / 127.0F;
  const float inverse_scale = is_tiny ? 0.0F : 127.0F / largest;
  std::uint8_t* codes = memory_->codes.as<std::uint8_t>() + block * packed_.block_bytes();
  if (n < kBlockItems || dim_ % (2 * kGroupDims) != 0) {
    std::memset(codes, kernels::kCodeOffset, packed_.block_bytes());
  }
  double residual = 0, code_norm = 0, norm = 0, half_square = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double square = squared_norm(rows[i], dim_);
    const double row_norm = std::sqrt(square);
    const RowError error = pack_row(rows[i], dim_, scale, inverse_scale, codes, i);
    // Float32 rounding of the residual, and float64 rounding of the exact score, relative to the
    // row: the proof is in docs/exact_top_n.md.
    const double slack = 2e-6 * row_norm;
    residual = std::max(residual, is_tiny ? row_norm * (1 + 1e-6)
                                          : std::sqrt(error.residual_square) * (1 + 1e-3) + slack);
    code_norm = std::max(code_norm, std::sqrt(error.code_square) * (1 + 1e-3));
    norm = std::max(norm, row_norm * (1 + 1e-9));
    half_square = i == 0 ? square / 2 : std::min(half_square, square / 2);
  }
  const double inverse = is_tiny ? 1.0 : 1.0 / static_cast<double>(scale);
  write_stats(block, {inverse, inverse, residual, code_norm, norm, half_square});
  if (packed_.nibbles != nullptr) pack_nibble_block(block, rows, n, scale, inverse_scale);
}

// After pack_block, with its rows and scale. The allowances for rounding are those of pack_block;
// for tiny rows they cover the rows themselves.
void Packer::pack_nibble_block(std::size_t block, const float* const* rows, std::size_t n,
                               float scale, float inverse_scale) {
  const std::uint8_t* codes = memory_->codes.as<std::uint8_t>() + block * packed_.block_bytes();
  std::uint8_t* nibbles =
      memory_->nibbles.as<std::uint8_t>() + block * packed_.nibble_block_bytes();
  if (n < kBlockItems) std::memset(nibbles, 0, packed_.nibble_block_bytes());
  double residual = 0, code_norm = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const RowError error = pack_nibbles(rows[i], dim_, scale, inverse_scale, codes, nibbles, i);
    const double slack = 2e-6 * std::sqrt(squared_norm(rows[i], dim_));
    residual = std::max(residual, std::sqrt(error.residual_square) * (1 + 1e-3) + slack);
    code_norm = std::max(code_norm, std::sqrt(error.code_square) * (1 + 1e-3));
  }
  write_nibble_stats(block, 1.0 / (16.0 * static_cast<double>(scale)), residual, code_norm);
}

void Packer::write_nibble_stats(std::size_t block, double inverse_scale, double residual,
                                double code_norm) {
  double* out = memory_->nibble_stats.data() + block;
  out[0] = inverse_scale;
  out[packed_.n_blocks] = residual;
  out[2 * packed_.n_blocks] = code_norm;
}

void Packer::write_stats(std::size_t block, const double (&stats)[kStatsPerBlock]) {
  double* out = memory_->stats.data() + block;
  for (std::size_t i = 0; i < kStatsPerBlock; ++i) out[i * packed_.n_blocks] = stats[i];
  if (metric_ != Metric::euclidean) out[(kStatsPerBlock - 1) * packed_.n_blocks] = 0;
}

}  // namespace shortlist
