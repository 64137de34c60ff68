// Which catalogues keep the high halves of their codes once more, for batches of one query.
#pragma once

#include <cstddef>

namespace [[gnu::visibility("default")]] shortlist {

// Those whose codes have at least so many bytes: 8 MiB, well beyond a second-level cache. Where the
// last level is shared by many cores, one of them reads it hardly faster than memory.
std::size_t min_code_bytes_for_nibbles();
// Another limit for what is packed from now on (tests and benchmarks).
void set_min_code_bytes_for_nibbles(std::size_t n_bytes);

}  // namespace shortlist
