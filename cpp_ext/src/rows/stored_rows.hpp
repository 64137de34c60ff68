// The stored vectors of a segment, one a slot, and the roundings of each storage (internal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "shortlist/metric.hpp"
#include "shortlist/storage.hpp"

namespace shortlist {

class RowFile;

// A view; whoever made it keeps the memory alive. Widening to float32 is exact for every storage.
struct StoredRows {
  Storage storage = Storage::float32;
  std::size_t n_rows = 0;
  std::size_t dim = 0;
  const void* data =
      nullptr;  // (n_rows, dim) float32, float16 or bfloat16; null for int8 and int4, which have
  const std::uint8_t* codes = nullptr;       // PackedItems::codes or nibbles,
  const std::uint32_t* positions = nullptr;  // where each slot is in them,
  const float* scales = nullptr;             // and the scale of each slot
  const RowFile* file = nullptr;             // float32 rows where data is null: they are there

  // Rows can be read where they lie.
  bool are_floats() const { return storage == Storage::float32 && file == nullptr; }
  const float* float_row(std::size_t slot) const {  // @pre are_floats()
    return static_cast<const float*>(data) + slot * dim;
  }
  // The row as float32: where it lies, or brought into `scratch` (dim floats).
  const float* read(std::size_t slot, float* scratch) const {
    if (are_floats()) return float_row(slot);
    widen(slot, scratch);
    return scratch;
  }
  // @pre !are_floats()
  void widen(std::size_t slot, float* out) const;
  // Rows that are in the second-level cache anyway need no asking.
  void prefetch(std::size_t slot) const {
    if (n_rows * dim > kInCache / sizeof(float)) fetch(slot);
  }

  static constexpr std::size_t kInCache = 512 * 1024;

 private:
  void fetch(std::size_t slot) const;
};

// Largest |row[d]|.
float largest_magnitude(const float* row, std::size_t dim);

// How the rows of a segment of this storage are kept, as StoredRows::storage.
constexpr Storage row_storage(Storage storage) {
  return has_rows_on_disk(storage) ? Storage::float32 : storage;
}
// Bytes of one number in rows of this storage; 0 where the codes are the rows.
std::size_t bytes_per_number(Storage storage);

std::uint16_t to_float16(float value);  // exponent bits all set when it is out of range
std::uint16_t to_bfloat16(float value);
float from_float16(std::uint16_t bits);
float from_bfloat16(std::uint16_t bits);

// One row in 8 or 4 bits: value d is scale * code d, and float32 holds it exactly, because the
// scale has 16 significant bits. For cosine the scale makes the length of the row 1. Rows whose
// largest magnitude is below 1e-30 become zero. Rounding a rounded row changes nothing.
struct CodeRow {
  float scale = 0;
  std::int32_t code_square = 0;  // sum of the squares of the codes
};
// Every scale is 0 or 1e-33 .. most_scale. @pre is_approximate(storage)
constexpr float most_scale(Storage storage) {
  return std::numeric_limits<float>::max() / (storage == Storage::int4 ? 16 : 128);
}
// int8: codes[d] = code + 128, d < dim. int4: codes[d] = (code + 15) / 2, of the odd codes
// -15 .. 15; the scale is the one, of some, whose row is nearest to the direction of the given one.
// @pre is_approximate(storage), dim <= kMaxPackedDim
CodeRow to_codes(Storage storage, const float* row, std::size_t dim, Metric metric,
                 std::uint8_t* codes);

// A row of float16 or bfloat16 numbers; false if one is beyond the range.
bool narrow_row(Storage storage, const float* row, std::size_t dim, std::uint16_t* out);

// What the storage makes of a row, as float32; false if a number is beyond its range. `out` may be
// the row itself.
bool round_row(Storage storage, Metric metric, const float* row, std::size_t dim, float* out);

}  // namespace shortlist
