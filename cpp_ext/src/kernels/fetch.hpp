// What every scan does beside its work.
#pragma once

#include "src/kernels/kernels.hpp"

namespace shortlist::kernels {

// Brings what a scan of one block is to bring into the second-level cache.
static inline void fetch(Ahead& ahead) {
  const uint8_t* end = ahead.codes + ahead.n_bytes;
  for (; ahead.codes < end; ahead.codes += kCacheLine) __builtin_prefetch(ahead.codes, 0, 2);
}

}  // namespace shortlist::kernels
