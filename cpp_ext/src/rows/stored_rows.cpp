#include "src/rows/stored_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "src/rows/packed.hpp"
#include "src/rows/row_file.hpp"

namespace shortlist {
namespace {

using kernels::kBlockItems;
using kernels::kCodeOffset;
using kernels::kGroupBytes;
using kernels::kGroupDims;

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To nearest, ties to even: the low n_bits of the mantissa become zero.
std::uint32_t round_bits(std::uint32_t bits, unsigned n_bits) {
  const std::uint32_t half = (1U << (n_bits - 1)) - 1;
  return (bits + half + (bits >> n_bits & 1U)) & ~((1U << n_bits) - 1);
}

template <class FromBits>
void widen_row(const std::uint16_t* row, std::size_t dim, const FromBits& from_bits, float* out) {
  for (std::size_t d = 0; d < dim; ++d) out[d] = from_bits(row[d]);
}

// Rows below this become zero: their scale would be too small to multiply exactly.
constexpr float kLeastMagnitude = 1e-30F;
constexpr float kMostCode = 127.0F;

// The nearest integer: adding and subtracting 1.5 * 2^23 rounds in plain float32 arithmetic.
float code_of(float value, float inverse_scale, float less = 0) {
  constexpr float kRound = 12582912.0F;
  return ((value * inverse_scale - less) + kRound) - kRound;
}

// To 16 significant bits; `fitting` is the scale where the length of the row need not be 1.
float scale_of(float fitting, std::int32_t code_square, Metric metric, float most) {
  const float scale = metric == Metric::cosine
                          ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(code_square)))
                          : std::min(fitting, most);
  const float rounded = float_of(round_bits(bits_of(scale), 8));
  return rounded > most ? float_of(bits_of(scale) & ~0xFFU) : rounded;
}

CodeRow to_bytes(const float* row, std::size_t dim, Metric metric, std::uint8_t* codes) {
  const float largest = largest_magnitude(row, dim);
  if (largest < kLeastMagnitude) {
    std::memset(codes, kCodeOffset, dim);
    return {};
  }
  const float inverse_scale = kMostCode / largest;
  std::int32_t square = 0;
  for (std::size_t d = 0; d < dim; ++d) {
    const std::int32_t code = static_cast<std::int32_t>(code_of(row[d], inverse_scale));
    square += code * code;
    codes[d] = static_cast<std::uint8_t>(code + kCodeOffset);
  }
  const float most = most_scale(Storage::int8);
  return {scale_of(largest / kMostCode, square, metric, most), square};
}

// Four-bit codes of a row in units of half a step, odd numbers -15 .. 15, and how they fit.
struct NibbleFit {
  double product = 0;       // sum of value * code
  std::int32_t square = 0;  // sum of code^2
  double quality() const { return product * product / static_cast<double>(square); }
};

NibbleFit fit_nibbles(const float* row, std::size_t dim, float inverse_step, std::uint8_t* codes) {
  NibbleFit fit;
  for (std::size_t d = 0; d < dim; ++d) {
    const float rounded = code_of(row[d], inverse_step, 0.5F);
    const auto code = static_cast<std::int32_t>(std::clamp(rounded, -8.0F, 7.0F));
    const std::int32_t odd = 2 * code + 1;
    fit.product += static_cast<double>(row[d]) * odd;
    fit.square += odd * odd;
    codes[d] = static_cast<std::uint8_t>(code + 8);
  }
  return fit;
}

CodeRow to_nibbles(const float* row, std::size_t dim, Metric metric, std::uint8_t* codes) {
  const float largest = largest_magnitude(row, dim);
  if (largest < kLeastMagnitude) {
    std::memset(codes, 8, dim);
    return {};
  }
  // The first is the one of a rounded row. Smaller ones cut the largest numbers off.
  constexpr float kParts[] = {1.0F, 0.92F, 0.84F, 0.76F, 0.68F, 0.6F, 0.5F, 0.4F};
  std::vector<std::uint8_t> tried(dim);
  NibbleFit best;
  for (const float part : kParts) {
    const NibbleFit fit = fit_nibbles(row, dim, 8.0F / (part * largest), tried.data());
    if (best.square != 0 && !(fit.quality() > best.quality())) break;
    best = fit;
    std::copy(tried.begin(), tried.end(), codes);
  }
  const double fitting = best.product / static_cast<double>(best.square);
  const float most = most_scale(Storage::int4);
  const auto scale = static_cast<float>(std::min(fitting, static_cast<double>(most)));
  return {scale_of(scale, best.square, metric, most), best.square};
}

// The code of a number as it is multiplied with the scale.
std::int32_t factor_of(Storage storage, std::uint8_t code) {
  return storage == Storage::int4 ? 2 * code - 15 : code - kCodeOffset;
}

// Code d of the row at `from` of a block: bytes, or halves of them.
std::uint8_t code_at(Storage storage, const std::uint8_t* from, std::size_t d) {
  const std::size_t group = d / kGroupDims;
  if (storage != Storage::int4) return from[group * kGroupBytes + d % kGroupDims];
  const std::uint8_t both = from[group / 2 * kGroupBytes + d % kGroupDims];
  return group % 2 == 0 ? both & 15U : both >> 4;
}

}  // namespace

float largest_magnitude(const float* row, std::size_t dim) {
  float largest = 0;
  for (std::size_t d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(row[d]));
  return largest;
}

std::size_t bytes_per_number(Storage storage) {
  if (is_approximate(storage)) return 0;
  return row_storage(storage) == Storage::float32 ? 4 : 2;
}

std::uint16_t to_float16(float value) {
  const std::uint32_t sign = bits_of(value) >> 16 & 0x8000U;
  const std::uint32_t magnitude = bits_of(value) & 0x7FFFFFFFU;
  if (magnitude < 0x38800000U) {  // below 2^-14: adding 0.5 rounds to multiples of 2^-24
    return static_cast<std::uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5F) - 0x3F000000U));
  }
  const std::uint32_t rounded = (round_bits(magnitude, 13) - (112U << 23)) >> 13;
  return static_cast<std::uint16_t>(sign | std::min(rounded, 0x7C00U));
}

float from_float16(std::uint16_t bits) {
  // The exponent moves by 112; the product is exact, also where the float32 is a denormal.
  const float scaled = float_of(static_cast<std::uint32_t>(bits & 0x7FFFU) << 13);
  constexpr float k2To112 = 5192296858534827628530496329220096.0F;
  return float_of(bits_of(scaled * k2To112) | static_cast<std::uint32_t>(bits & 0x8000U) << 16);
}

std::uint16_t to_bfloat16(float value) {
  return static_cast<std::uint16_t>(round_bits(bits_of(value), 16) >> 16);
}

float from_bfloat16(std::uint16_t bits) {
  return float_of(static_cast<std::uint32_t>(bits) << 16);
}

CodeRow to_codes(Storage storage, const float* row, std::size_t dim, Metric metric,
                 std::uint8_t* codes) {
  return storage == Storage::int4 ? to_nibbles(row, dim, metric, codes)
                                  : to_bytes(row, dim, metric, codes);
}

bool narrow_row(Storage storage, const float* row, std::size_t dim, std::uint16_t* out) {
  const bool is_half = storage == Storage::float16;
  const std::uint32_t exponent = is_half ? 0x7C00U : 0x7F80U;
  std::uint32_t is_bad = 0;
  for (std::size_t d = 0; d < dim; ++d) {
    out[d] = is_half ? to_float16(row[d]) : to_bfloat16(row[d]);
    is_bad |= static_cast<std::uint32_t>((out[d] & exponent) == exponent);
  }
  return is_bad == 0;
}

bool round_row(Storage storage, Metric metric, const float* row, std::size_t dim, float* out) {
  if (row_storage(storage) == Storage::float32) {
    if (out != row) std::copy_n(row, dim, out);
    return true;
  }
  if (is_approximate(storage)) {
    std::vector<std::uint8_t> codes(dim);
    const float scale = to_codes(storage, row, dim, metric, codes.data()).scale;
    for (std::size_t d = 0; d < dim; ++d) {  // the sum makes -0 of a zero row 0
      out[d] = scale * static_cast<float>(factor_of(storage, codes[d])) + 0.0F;
    }
    return true;
  }
  std::vector<std::uint16_t> narrow(dim);
  const bool is_in_range = narrow_row(storage, row, dim, narrow.data());
  if (storage == Storage::float16) {
    widen_row(narrow.data(), dim, from_float16, out);
  } else {
    widen_row(narrow.data(), dim, from_bfloat16, out);
  }
  return is_in_range;
}

void StoredRows::widen(std::size_t slot, float* out) const {
  if (file != nullptr) {
    file->read(slot, out);
  } else if (storage == Storage::float16) {
    widen_row(static_cast<const std::uint16_t*>(data) + slot * dim, dim, from_float16, out);
  } else if (storage == Storage::bfloat16) {
    widen_row(static_cast<const std::uint16_t*>(data) + slot * dim, dim, from_bfloat16, out);
  } else {
    const std::size_t position = positions[slot];
    const std::size_t n_units = n_groups_for(dim) / (storage == Storage::int4 ? 2 : 1);
    const std::uint8_t* from = codes + position / kBlockItems * n_units * kGroupBytes +
                               position % kBlockItems * kGroupDims;
    for (std::size_t d = 0; d < dim; ++d) {
      const std::int32_t factor = factor_of(storage, code_at(storage, from, d));
      out[d] = scales[slot] * static_cast<float>(factor) + 0.0F;
    }
  }
}

void StoredRows::fetch(std::size_t slot) const {
  if (data == nullptr)
    return;  // in a file; or the codes are the rows: the scan has just read the codes
  const std::size_t row_bytes = dim * bytes_per_number(storage);
  const char* bytes = static_cast<const char*>(data) + slot * row_bytes;
  const std::size_t n_bytes = std::min<std::size_t>(row_bytes, 512);
  for (std::size_t at = 0; at < n_bytes; at += 64) __builtin_prefetch(bytes + at);
}

}  // namespace shortlist
