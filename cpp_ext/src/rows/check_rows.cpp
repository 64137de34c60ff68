#include "src/rows/check_rows.hpp"

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "src/rows/packed.hpp"

namespace shortlist {
namespace {

bool is_finite(const float* row, std::size_t dim) {
  std::uint32_t is_bad = 0;  // all exponent bits set = NaN or infinity
  for (std::size_t d = 0; d < dim; ++d) {
    std::uint32_t bits;
    std::memcpy(&bits, row + d, sizeof bits);
    is_bad |= static_cast<std::uint32_t>((bits & 0x7F800000U) == 0x7F800000U);
  }
  return is_bad == 0;
}

}  // namespace

std::size_t first_bad_row(const MatrixView& rows) {
  for (std::size_t row = 0; row < rows.n_rows; ++row) {
    if (!is_finite(rows.row(row), rows.dim)) return row;
  }
  return rows.n_rows;
}

void throw_not_finite(std::size_t row) {
  throw std::invalid_argument("vectors: row " + std::to_string(row) +
                              " holds a NaN or an infinity; expected finite numbers; drop or "
                              "repair that row");
}

void check_dim(std::size_t dim, Storage storage) {
  if (!is_approximate(storage) || dim <= kMaxPackedDim) return;
  throw std::invalid_argument("vectors: got dim " + std::to_string(dim) + "; storage " +
                              name_of(storage) + " takes at most " + std::to_string(kMaxPackedDim) +
                              "; use storage float16, bfloat16 or float32");
}

void throw_out_of_range(std::size_t row, Storage storage) {
  const bool is_half = storage == Storage::float16;
  throw std::invalid_argument(
      "vectors: row " + std::to_string(row) + " holds a number beyond the range of storage " +
      (is_half ? "float16" : "bfloat16") + "; expected magnitudes below " +
      (is_half ? "65520" : "3.39e38") + "; rescale the embeddings or use storage float32");
}

}  // namespace shortlist
