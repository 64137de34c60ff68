// A borrowed row-major float32 matrix. The caller owns the memory and keeps it alive; rows are
// contiguous (no stride) and need no alignment.
#pragma once

#include <cstddef>

namespace shortlist {

struct MatrixView {
  const float* data = nullptr;
  std::size_t n_rows = 0;
  std::size_t dim = 0;

  const float* row(std::size_t index) const { return data + index * dim; }
};

}  // namespace shortlist
