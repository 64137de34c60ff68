#include "src/rows/stored_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "src/rows/packed.hpp"

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
float code_of(float value, float inverse_scale) {
  constexpr float kRound = 12582912.0F;
  return (value * inverse_scale + kRound) - kRound;
}

float scale_of(float largest, std::int32_t code_square, Metric metric) {
  const float scale = metric == Metric::cosine
                          ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(code_square)))
                          : std::min(largest / kMostCode, kMostScale);
  const float rounded = float_of(round_bits(bits_of(scale), 8));
  return rounded > kMostScale ? float_of(bits_of(scale) & ~0xFFU) : rounded;
}

}  // namespace

float largest_magnitude(const float* row, std::size_t dim) {
  float largest = 0;
  for (std::size_t d = 0; d < dim; ++d) largest = std::max(largest, std::fabs(row[d]));
  return largest;
}

std::size_t bytes_per_number(Storage storage) {
  return storage == Storage::float32 ? 4 : storage == Storage::int8 ? 0 : 2;
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

ByteRow to_bytes(const float* row, std::size_t dim, Metric metric, std::uint8_t* codes) {
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
  return {scale_of(largest, square, metric), square};
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
  if (storage == Storage::float32) {
    if (out != row) std::copy_n(row, dim, out);
    return true;
  }
  if (storage == Storage::int8) {
    std::vector<std::uint8_t> codes(dim);
    const float scale = to_bytes(row, dim, metric, codes.data()).scale;
    for (std::size_t d = 0; d < dim; ++d) {
      out[d] = scale * static_cast<float>(codes[d] - kCodeOffset);
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
  if (storage == Storage::float16) {
    widen_row(static_cast<const std::uint16_t*>(data) + slot * dim, dim, from_float16, out);
  } else if (storage == Storage::bfloat16) {
    widen_row(static_cast<const std::uint16_t*>(data) + slot * dim, dim, from_bfloat16, out);
  } else {
    const std::size_t position = positions[slot];
    const std::size_t block_bytes = n_groups_for(dim) * kGroupBytes;
    const std::uint8_t* from =
        codes + position / kBlockItems * block_bytes + position % kBlockItems * kGroupDims;
    for (std::size_t d = 0; d < dim; ++d) {
      const std::int32_t code = from[d / kGroupDims * kGroupBytes + d % kGroupDims] - kCodeOffset;
      out[d] = scales[slot] * static_cast<float>(code);
    }
  }
}

void StoredRows::fetch(std::size_t slot) const {
  if (data == nullptr) return;  // int8: the scan has just read the codes
  const std::size_t row_bytes = dim * bytes_per_number(storage);
  const char* bytes = static_cast<const char*>(data) + slot * row_bytes;
  const std::size_t n_bytes = std::min<std::size_t>(row_bytes, 512);
  for (std::size_t at = 0; at < n_bytes; at += 64) __builtin_prefetch(bytes + at);
}

}  // namespace shortlist
