// The kernel table in use (internal).
#pragma once

#include "src/kernels/kernels.hpp"

namespace shortlist {

// Chosen on first use; see shortlist/simd.hpp for what is thrown.
const kernels::Table& active_kernels();

}  // namespace shortlist
