#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numeric>

#include "packed.hpp"
#include "snapshot.hpp"

namespace shortlist {
namespace {

using kernels::kBlockItems;
using kernels::kGroupBytes;
using kernels::kGroupDims;

struct Storage {
  // 64 spare bytes, so that the codes can start aligned.
  explicit Storage(std::size_t code_bytes) : bytes(code_bytes + 64, kernels::kCodeOffset) {}

  std::uint8_t* codes() {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    return bytes.data() + (64 - address % 64) % 64;
  }

  std::vector<std::uint8_t> bytes;
  std::vector<std::uint32_t> order;
  std::vector<double> stats;
};

float largest_magnitude(const float* row, std::size_t dim) {
  float largest = 0;
  for (std::size_t d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(row[d]));
  return largest;
}

std::vector<std::uint32_t> order_by_norm(const MatrixView& rows) {
  std::vector<double> squares(rows.n_rows);
  for (std::size_t r = 0; r < rows.n_rows; ++r) squares[r] = squared_norm(rows.row(r), rows.dim);
  std::vector<std::uint32_t> order(rows.n_rows);
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&squares](std::uint32_t a, std::uint32_t b) {
    return squares[a] > squares[b];
  });
  return order;
}

struct RowError {
  double residual_square;  // sum (x - s c)^2
  double code_square;      // sum c^2
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

void pack_block(const MatrixView& rows, const std::uint32_t* order, std::size_t first,
                std::size_t n, Metric metric, std::uint8_t* block, double* stats,
                std::size_t n_blocks) {
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t row = order == nullptr ? first + i : order[first + i];
    largest = std::max(largest, largest_magnitude(rows.row(row), rows.dim));
  }
  // Below this the float32 reciprocal would overflow: all codes 0, the residual is the row itself.
  const bool is_tiny = largest < 1e-30F;
  const float scale = is_tiny ? 1.0F : largest / 127.0F;
  const float inverse_scale = is_tiny ? 0.0F : 127.0F / largest;
  double residual = 0, code_norm = 0, norm = 0, half_square = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t row = order == nullptr ? first + i : order[first + i];
    const double square = squared_norm(rows.row(row), rows.dim);
    const double row_norm = std::sqrt(square);
    const RowError error = pack_row(rows.row(row), rows.dim, scale, inverse_scale, block, i);
    // Float32 rounding of the residual, and float64 rounding of the exact score, relative to the
    // row: the proof is in docs/exact_top_n.md.
    const double slack = 2e-6 * row_norm;
    residual = std::max(residual, is_tiny ? row_norm * (1 + 1e-6)
                                          : std::sqrt(error.residual_square) * (1 + 1e-3) + slack);
    code_norm = std::max(code_norm, std::sqrt(error.code_square) * (1 + 1e-3));
    norm = std::max(norm, row_norm * (1 + 1e-9));
    half_square = i == 0 ? square / 2 : std::min(half_square, square / 2);
  }
  stats[0] = is_tiny ? 1.0 : 1.0 / static_cast<double>(scale);
  stats[n_blocks] = residual;
  stats[2 * n_blocks] = code_norm;
  stats[3 * n_blocks] = norm;
  stats[4 * n_blocks] = metric == Metric::euclidean ? half_square : 0.0;
}

}  // namespace

PackedItems pack_items(const MatrixView& rows, Metric metric) {
  PackedItems packed;
  if (rows.n_rows == 0 || rows.dim > kMaxPackedDim) return packed;
  packed.n_items = rows.n_rows;
  packed.n_blocks = (rows.n_rows + kBlockItems - 1) / kBlockItems;
  packed.n_groups = n_groups_for(rows.dim);
  auto storage = std::make_shared<Storage>(packed.n_blocks * packed.block_bytes());
  storage->stats.resize(kStatsPerBlock * packed.n_blocks);
  if (metric != Metric::cosine) {
    storage->order = order_by_norm(rows);
    packed.order = storage->order.data();
  }
  std::uint8_t* codes = storage->codes();
  for (std::size_t b = 0; b < packed.n_blocks; ++b) {
    const std::size_t first = b * kBlockItems;
    pack_block(rows, packed.order, first, std::min(kBlockItems, rows.n_rows - first), metric,
               codes + b * packed.block_bytes(), storage->stats.data() + b, packed.n_blocks);
  }
  packed.codes = codes;
  packed.stats = storage->stats.data();
  packed.owner = std::move(storage);
  return packed;
}

PackedItems copy_packed(const PackedItems& packed) {
  if (packed.is_empty()) return packed;
  PackedItems copy = packed;
  const std::size_t code_bytes = packed.n_blocks * packed.block_bytes();
  auto storage = std::make_shared<Storage>(code_bytes);
  std::memcpy(storage->codes(), packed.codes, code_bytes);
  storage->stats.assign(packed.stats, packed.stats + kStatsPerBlock * packed.n_blocks);
  if (packed.order != nullptr) {
    storage->order.assign(packed.order, packed.order + packed.n_items);
    copy.order = storage->order.data();
  }
  copy.codes = storage->codes();
  copy.stats = storage->stats.data();
  copy.owner = std::move(storage);
  return copy;
}

}  // namespace shortlist
