#include "ort_op/rerank_loops.hpp"

#include <string>

#include "shortlist/simd.hpp"

namespace shortlist::ort_op {

const RerankLoops& rerank_loops() {
#if defined(__x86_64__)
  const std::string level = simd_level();
  if (level == "avx512" || level == "amx-int8") return *rerank_loops_avx512();
  if (level == "avx2" || level == "avxvnni") return *rerank_loops_avx2();
#endif
  return *rerank_loops_base();
}

}  // namespace shortlist::ort_op
