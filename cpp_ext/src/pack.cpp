#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "packer.hpp"

namespace shortlist {
namespace {

using kernels::kBlockItems;
using kernels::kGroupBytes;
using kernels::kGroupDims;

// Sorts descending by `size` >= 0, then by the lower row.
std::uint64_t key_of(float size, std::size_t row) {
  std::uint32_t bits;
  std::memcpy(&bits, &size, sizeof bits);
  return static_cast<std::uint64_t>(~bits) << 32 | row;
}

struct RowError {
  double residual_square;  // sum (x - s c)^2
  double code_square;      // sum (s c)^2
};

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
  const auto total = [](const float* sum) {
    return static_cast<double>(sum[0]) + static_cast<double>(sum[1]) + static_cast<double>(sum[2]) +
           static_cast<double>(sum[3]);
  };
  return {unit * total(residual), unit * total(code_square)};
}

}  // namespace

Packer::Packer(std::size_t n_rows, std::size_t dim, Metric metric, Storage storage)
    : metric_(metric),
      storage_(storage),
      dim_(dim),
      segment_(std::make_shared<Segment>()),
      memory_(std::make_shared<PackedMemory>()) {
  segment_->owned_vectors = Buffer(n_rows * dim * bytes_per_number(storage));
  segment_->vectors = {storage, n_rows, dim, segment_->owned_vectors.as<void>()};
  if (n_rows == 0 || dim > kMaxPackedDim) return;
  packed_.n_items = n_rows;
  packed_.n_blocks = (n_rows + kBlockItems - 1) / kBlockItems;
  packed_.n_groups = n_groups_for(dim);
  memory_->codes = Buffer(packed_.n_blocks * packed_.block_bytes());
  memory_->stats.resize(kStatsPerBlock * packed_.n_blocks);
  if (is_ordered()) keys_.resize(n_rows);
  if (storage == Storage::int8) {
    memory_->scales.resize(n_rows);
  } else if (storage != Storage::float32) {
    scratch_.resize(kBlockItems * dim);
  }
}

bool Packer::add(const float* row) {
  const std::size_t place = n_added_++;
  bool is_in_range = true;
  if (storage_ == Storage::int8) {
    add_bytes(row);
  } else if (storage_ == Storage::float32) {
    std::copy_n(row, dim_, segment_->owned_vectors.as<float>() + place * dim_);
  } else {
    std::uint16_t* out = segment_->owned_vectors.as<std::uint16_t>() + place * dim_;
    is_in_range = narrow_row(storage_, row, dim_, out);
  }
  if (!is_packed()) return is_in_range;
  if (!keys_.empty() && storage_ != Storage::int8) {
    constexpr double kMost = static_cast<double>(std::numeric_limits<float>::max());
    const float* stored = segment_->vectors.read(place, scratch_.data());
    const double norm = std::min(std::sqrt(squared_norm(stored, dim_)), kMost);
    keys_[place] = key_of(static_cast<float>(norm), place);
  }
  if (!is_ordered() && (n_added_ % kBlockItems == 0 || n_added_ == packed_.n_items)) {
    pack_block(place / kBlockItems);
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
  if (storage_ == Storage::int8 && metric_ != Metric::cosine) order_by_scale();
  packed_.order = memory_->order.data();
}

// Within groups of alike norm: a block then has about one norm and about one scale, and the
// threshold of the block is about right for each of its items.
void Packer::order_by_scale() {
  const double n_groups = std::sqrt(static_cast<double>(packed_.n_blocks));
  const std::size_t size = static_cast<std::size_t>(n_groups) * kBlockItems;
  for (std::size_t first = 0; first < packed_.n_items; first += size) {
    const auto begin = memory_->order.begin() + static_cast<std::ptrdiff_t>(first);
    const std::size_t n = std::min(size, packed_.n_items - first);
    const std::vector<float>& scales = memory_->scales;
    std::sort(begin, begin + static_cast<std::ptrdiff_t>(n),
              [&scales](std::uint32_t a, std::uint32_t b) {
                return scales[a] > scales[b] || (scales[a] == scales[b] && a < b);
              });
  }
}

std::shared_ptr<Segment> Packer::finish() {
  if (is_packed()) {
    if (is_ordered()) set_order();
    if (storage_ == Storage::int8) {
      move_bytes();
    } else if (is_ordered()) {
      for (std::size_t block = 0; block < packed_.n_blocks; ++block) pack_block(block);
    }
    packed_.codes = memory_->codes.as<std::uint8_t>();
    packed_.stats = memory_->stats.data();
    packed_.owner = std::move(memory_);
  }
  segment_->packed = std::move(packed_);
  if (storage_ == Storage::int8) segment_->read_codes();
  return std::move(segment_);
}

void Packer::pack_block(std::size_t block) {
  const std::size_t first = block * kBlockItems;
  const std::size_t n = std::min(kBlockItems, packed_.n_items - first);
  const StoredRows& stored = segment_->vectors;
  const float* rows[kBlockItems];
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t next = first + kBlockItems + i;
    if (next < packed_.n_items && is_ordered()) stored.prefetch(packed_.row_at(next));
    rows[i] = stored.read(packed_.row_at(first + i), scratch_.data() + i * dim_);
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
}

void Packer::write_stats(std::size_t block, const double (&stats)[kStatsPerBlock]) {
  double* out = memory_->stats.data() + block;
  for (std::size_t i = 0; i < kStatsPerBlock; ++i) out[i * packed_.n_blocks] = stats[i];
  if (metric_ != Metric::euclidean) out[(kStatsPerBlock - 1) * packed_.n_blocks] = 0;
}

// ---- int8 storage ----

void Packer::add_bytes(const float* row) {
  const std::size_t place = n_added_ - 1;
  const std::size_t row_bytes = packed_.n_groups * kGroupDims;
  std::uint8_t* codes = memory_->codes.as<std::uint8_t>() + place * row_bytes;
  const ByteRow rounded = to_bytes(row, dim_, metric_, codes);
  std::fill(codes + dim_, codes + row_bytes, static_cast<std::uint8_t>(kernels::kCodeOffset));
  memory_->scales[place] = rounded.scale;
  const float size = metric_ == Metric::cosine
                         ? rounded.scale
                         : rounded.scale * static_cast<float>(std::sqrt(rounded.code_square));
  keys_[place] = key_of(size, place);
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
    const float scale = packed_.scales[packed_.row_at(first + i)];
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
